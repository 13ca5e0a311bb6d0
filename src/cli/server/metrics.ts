import { serveText } from '../../sys/text-endpoint.ts';
import type { EndpointAddress } from '../../sys/endpoint-address.ts';
import type { TextEndpoint } from '../../sys/text-endpoint.ts';
import { renderPrometheus } from '../stats/prometheus.ts';
import type { Server } from './server.ts';
import { reportStats } from './stats.ts';

/** Tells Prometheus of a server, at /metrics. */
export function serveMetrics(server: Server, address: EndpointAddress): Promise<TextEndpoint> {
  return serveText(address, {
    path: '/metrics',
    type: 'text/plain; version=0.0.4; charset=utf-8',
    text: () => renderPrometheus([reportStats(server)], false),
  });
}
