import path from 'node:path';
import { optional, text } from '../block/schema.ts';
import { parseEndpointAddress } from '../sys/endpoint-address.ts';
import type { EndpointAddress } from '../sys/endpoint-address.ts';
import { UsageError } from './command.ts';

/** Of commands that start a server. */
export const METRICS_OPTION = {
  metrics: {
    schema: optional(
      text(
        'Tell Prometheus of this server over HTTP, at /metrics: a port of this machine only, HOST:PORT, or unix:PATH ' +
          '(for the owner only)',
      ),
    ),
    value: 'address',
  },
} as const;

/** Throws a UsageError for what is no address. */
export function metricsAddress(given: string | undefined): EndpointAddress | undefined {
  if (given === undefined) return undefined;
  const address = parseEndpointAddress(given);
  if (address === undefined)
    throw new UsageError(`--metrics is "${given}", must be a port, HOST:PORT or unix:PATH`);
  return address.kind === 'unix' ? { ...address, path: path.resolve(address.path) } : address;
}
