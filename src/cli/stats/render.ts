import type { ExportStats, NodeStats, StatsReport, TrafficStats } from '../../control/stats.ts';
import { formatSize } from '../../util/sizes.ts';
import { renderTable } from '../render.ts';
import { formatTime, percentile } from './percentile.ts';

/** Statistics as people read them. */
export function renderStats(reports: readonly StatsReport[]): string {
  if (reports.length === 0) return 'no server of yours is running';
  return reports.map(renderServer).join('\n\n');
}

function renderServer(report: StatsReport): string {
  const { pid, started, memory, exports, nodes } = report;
  return [
    `server ${pid}, since ${started}, ${formatSize(memory)} of memory`,
    ...exports.map((each) => renderExport(each, report)),
    ...(nodes.length === 0 ? [] : [renderNodes(nodes)]),
    ...renderCaches(nodes),
  ].join('\n\n');
}

function renderExport(given: ExportStats, { 'latency-bounds': bounds }: StatsReport): string {
  const { id, node, file, size, allocated, latency } = given;
  const facts = [
    formatSize(size),
    ...(allocated === undefined ? [] : [`${formatSize(allocated)} allocated`]),
    ...(given.writable ? [] : ['read-only']),
    ...(given.passthrough ? ['open by passthrough: the kernel does its I/O, not counted here'] : []),
  ];
  const rows = [
    ['read', given.reads, formatSize(given['read-bytes']), latency.read] as const,
    ['write', given.writes, formatSize(given['written-bytes']), latency.write] as const,
    ['zero', given.zeroes, '', latency.zero] as const,
    ['discard', given.discards, '', latency.discard] as const,
    ['flush', given.flushes, '', latency.flush] as const,
  ].map(([name, count, bytes, times]) => [
    `  ${name}`,
    String(count),
    bytes,
    formatTime(percentile(times, bounds, 0.5)),
    formatTime(percentile(times, bounds, 0.99)),
  ]);
  return [
    `export "${id}": ${file}, node ${node}: ${facts.join(', ')}`,
    renderTable(['', 'REQUESTS', 'BYTES', 'P50', 'P99'], rows),
    `  not answered at once: ${slowShare(given)}; errors: ${given.errors}; in flight: ${given['in-flight']}`,
  ].join('\n');
}

function renderNodes(nodes: readonly NodeStats[]): string {
  const heading = ['NODE', 'DRIVER', 'READS', 'BYTES', 'WRITES', 'BYTES', 'ZEROES', 'DISCARDS', 'FLUSHES'];
  const rows = nodes.map((node) => [
    node.name,
    node.driver,
    ...[String(node.reads), formatSize(node['read-bytes'])],
    ...[String(node.writes), formatSize(node['written-bytes'])],
    ...[node.zeroes, node.discards, node.flushes].map(String),
    ...[slowShare(node), String(node.errors), String(node['in-flight'])],
    node.allocated === undefined ? '' : formatSize(node.allocated),
  ]);
  return renderTable([...heading, 'SLOW', 'ERRORS', 'NOW', 'ALLOCATED'], rows);
}

function renderCaches(nodes: readonly NodeStats[]): string[] {
  const rows = nodes.flatMap(({ name: node, caches }) =>
    caches.map(({ name, hits, misses, bytes, capacity }) => [
      ...[node, name, String(hits), String(misses), shareText(hits, hits + misses)],
      ...[formatSize(bytes), formatSize(capacity)],
    ]),
  );
  if (rows.length === 0) return [];
  return [renderTable(['NODE', 'CACHE', 'HITS', 'MISSES', 'SHARE', 'HELD', 'AT MOST'], rows)];
}

function slowShare(traffic: TrafficStats): string {
  const { reads, writes, zeroes, discards, flushes, slow } = traffic;
  return shareText(slow, Math.max(slow, reads + writes + zeroes + discards + flushes));
}

const shareText = (part: number, whole: number): string =>
  whole === 0 ? '-' : `${Number(((part / whole) * 100).toPrecision(3))} %`;
