import type { OpenContext, RequestDriver } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { choice, integer, optional, text } from '../../../src/block/schema.ts';
import { addressOf, parseNbdName, uriOf } from './address.ts';
import type { NbdDisk } from './disk.ts';
import { ExportFlag } from './wire.ts';

const DAY = 86_400;
const ALLOCATION = 'base:allocation';

const OPTIONS = {
  'server.type': optional(choice(['unix', 'inet'], 'Kind of socket; unix when a path is given')),
  'server.path': optional(text('Path of the unix socket')),
  'server.host': optional(text('Name or address of the server')),
  'server.port': optional(integer('TCP port', 1, 65535)),
  path: optional(text('Short for server.path')),
  host: optional(text('Short for server.host')),
  port: optional(integer('Short for server.port', 1, 65535)),
  export: optional(text('Name of the export'), ''),
  'reconnect-delay': optional(
    integer('Seconds that requests wait for a lost connection to come back; without them they fail', 0, DAY),
    0,
  ),
  'open-timeout': optional(integer('Seconds to go on trying to connect when it is opened', 0, DAY), 0),
  'x-dirty-bitmap': optional(
    text(
      'Metadata context to show instead of the data, such as qemu:dirty-bitmap:NAME; dirty parts are holes in map',
    ),
  ),
  'tls-creds': optional(text('TLS credentials; not supported')),
  'tls-hostname': optional(text('Name in the certificate of the server; not supported')),
};
type Options = OptionsOf<typeof OPTIONS>;

async function open(context: OpenContext<Options>): Promise<RequestDriver> {
  const { options, common } = context;
  const address = addressOf(options);
  const uri = uriOf(address, options.export);
  const refuse = (code: 'ENOTSUP' | 'EACCES' | 'EINVAL', why: string): never => {
    throw new BlockError(code, `Cannot open NBD export "${uri}": ${why}`);
  };
  for (const name of ['tls-creds', 'tls-hostname'] as const) {
    if (options[name] !== undefined) refuse('ENOTSUP', `${name} is given, TLS is not supported`);
  }
  const [{ Link }, { NbdDisk: Disk }] = await Promise.all([import('./link.ts'), import('./disk.ts')]);
  const bitmap = options['x-dirty-bitmap'];
  let disk: NbdDisk | undefined;
  const link = await Link.open({
    address,
    request: { name: options.export, context: bitmap ?? ALLOCATION },
    uri,
    openTimeout: options['open-timeout'] * 1000,
    reconnectDelay: options['reconnect-delay'] * 1000,
    lost: () => {
      context.warn('the connection was lost, connecting again');
      disk?.wasLost();
    },
  });
  try {
    const { flags, contextId } = link.facts;
    if (bitmap !== undefined && contextId === undefined)
      refuse('EINVAL', `x-dirty-bitmap is "${bitmap}", the server has no such context`);
    if ((flags & ExportFlag.readOnly) !== 0 && !common.readOnly && !common.autoReadOnly)
      refuse('EACCES', 'the server shares it read-only; use read-only=on');
    const readOnly = common.readOnly || bitmap !== undefined;
    disk = new Disk(link, { filename: uri, readOnly, showsBitmap: bitmap !== undefined });
    return disk;
  } catch (error) {
    link.close();
    throw error;
  }
}

export const nbdDriver = defineDriver({
  name: 'nbd',
  kind: 'protocol',
  summary: 'An export of an NBD server, over a unix or TCP socket',
  options: OPTIONS,
  children: {},
  prefixes: ['nbd:', 'nbd+unix://', 'nbd+tcp://', 'nbds://', 'nbds+unix://', 'nbds+tcp://'],
  parseFilename: parseNbdName,
  open,
});
