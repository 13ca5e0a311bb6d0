/** What happened between two reports of a server, a row for each export and node. */
import type { ExportStats, LatencyStats, NodeStats, StatsReport, TrafficStats } from '../../control/stats.ts';
import { LATENCY_KINDS } from '../../control/stats.ts';
import { percentile } from '../stats/percentile.ts';

export interface Row {
  readonly name: string;
  readonly kind: 'server' | 'export' | 'node';
  /** A second. */
  readonly reads: number;
  readonly readBytes: number;
  readonly writes: number;
  readonly writtenBytes: number;
  /** us; undefined where nothing was timed. */
  readonly p50: number | undefined;
  readonly p99: number | undefined;
  /** 0 to 1; undefined where no cache was asked. */
  readonly hits: number | undefined;
  readonly inFlight: number;
  readonly allocated: number | undefined;
  /** In this time. */
  readonly errors: number;
  /** What else is to be said: the kernel does its I/O. */
  readonly note: string;
}

/** @param before the same server a while ago; undefined: since its start */
export function rowsBetween(before: StatsReport | undefined, now: StatsReport): Row[] {
  const seconds = before === undefined ? now.uptime : (now.time - before.time) / 1000;
  const exports = now.exports.map((each) =>
    exportRow(
      before?.exports.find(({ id }) => id === each.id),
      each,
      { now, seconds },
    ),
  );
  // Those that stand on others are opened after them.
  const nodes = now.nodes.toReversed().map((each) =>
    nodeRow(
      before?.nodes.find(({ name, driver }) => name === each.name && driver === each.driver),
      each,
      seconds,
    ),
  );
  return [...exports, ...nodes];
}

function exportRow(
  before: ExportStats | undefined,
  now: ExportStats,
  { now: report, seconds }: { now: StatsReport; seconds: number },
): Row {
  const bounds = report['latency-bounds'];
  const times = { buckets: bounds.concat(0).map((_, index) => requestsIn(before, now, index)) };
  return {
    ...trafficRow(before, now, seconds),
    name: now.id === 'mount' ? lastPart(now.file) : now.id,
    kind: 'export',
    p50: percentile(times, bounds, 0.5),
    p99: percentile(times, bounds, 0.99),
    hits: undefined,
    allocated: now.allocated,
    note: now.passthrough ? 'passed through: the kernel does its I/O, which is not counted' : '',
  };
}

/** Requests of all kinds in one bucket. */
function requestsIn(before: ExportStats | undefined, now: ExportStats, index: number): number {
  const of = (latency: LatencyStats | undefined): number => latency?.buckets[index] ?? 0;
  return LATENCY_KINDS.reduce(
    (sum, kind) => sum + Math.max(0, of(now.latency[kind]) - of(before?.latency[kind])),
    0,
  );
}

function nodeRow(before: NodeStats | undefined, now: NodeStats, seconds: number): Row {
  const total = (stats: NodeStats | undefined, key: 'hits' | 'misses'): number =>
    stats?.caches.reduce((sum, cache) => sum + cache[key], 0) ?? 0;
  const hits = Math.max(0, total(now, 'hits') - total(before, 'hits'));
  const misses = Math.max(0, total(now, 'misses') - total(before, 'misses'));
  return {
    ...trafficRow(before, now, seconds),
    name: `${now.driver} ${isGenerated(now.name) && now.filename !== '' ? lastPart(now.filename) : now.name}`,
    kind: 'node',
    p50: undefined,
    p99: undefined,
    hits: hits + misses === 0 ? undefined : hits / (hits + misses),
    allocated: now.allocated,
    note: '',
  };
}

/** A thing that was made anew under its old name has smaller counters: it begins then. */
function trafficRow(before: TrafficStats | undefined, now: TrafficStats, seconds: number) {
  const grown = (key: keyof TrafficStats): number => {
    const difference = now[key] - (before?.[key] ?? 0);
    return difference < 0 ? now[key] : difference;
  };
  const perSecond = (key: keyof TrafficStats): number => (seconds <= 0 ? 0 : grown(key) / seconds);
  return {
    reads: perSecond('reads'),
    readBytes: perSecond('read-bytes'),
    writes: perSecond('writes'),
    writtenBytes: perSecond('written-bytes'),
    inFlight: now['in-flight'],
    errors: grown('errors'),
  };
}

/** A name that nobody has given tells nothing. */
const isGenerated = (name: string): boolean => name.startsWith('#');

const lastPart = (file: string): string => file.slice(file.lastIndexOf('/') + 1);
