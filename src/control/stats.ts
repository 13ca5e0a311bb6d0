/**
 * What `blockfuse stats --json` prints and the other ways to look at a server are made from. Counters begin with the server and only
 * grow; keys may be added, those here stay and keep their meaning.
 */
import type { CacheCounters } from '../block/cache-counters.ts';
import type { Node } from '../block/node.ts';
import { allocatedSize } from '../block/storage.ts';

export interface StatsReport {
  readonly pid: number;
  readonly version: string;
  /** ISO 8601. */
  readonly started: string;
  /** When the counters were looked at: ms since 1970, and s since the start. */
  readonly time: number;
  readonly uptime: number;
  /** Resident memory of the server in bytes, and CPU seconds it has used. */
  readonly memory: number;
  readonly 'cpu-seconds': number;
  /** Upper ends, in us, of all buckets of a latency but the last, which has none. */
  readonly 'latency-bounds': readonly number[];
  readonly exports: readonly ExportStats[];
  readonly nodes: readonly NodeStats[];
}

/** Requests that were answered without an error, and their bytes. */
export interface TrafficStats {
  readonly reads: number;
  readonly 'read-bytes': number;
  readonly writes: number;
  readonly 'written-bytes': number;
  readonly zeroes: number;
  readonly discards: number;
  readonly flushes: number;
  /** Requests that could not be answered at once. */
  readonly slow: number;
  readonly errors: number;
  /** Requests that wait now. */
  readonly 'in-flight': number;
}

export interface ExportStats extends TrafficStats {
  readonly id: string;
  /** Whom it shows. */
  readonly node: string;
  /** The file that shows the disk, and where that is mounted. */
  readonly file: string;
  readonly mountpoint: string;
  readonly writable: boolean;
  readonly size: number;
  /** Bytes that the image takes; left out where that can't be told. */
  readonly allocated?: number | undefined;
  /** The kernel does the I/O of whoever has the file open now: it is not counted here. */
  readonly passthrough: boolean;
  readonly latency: Readonly<Record<LatencyKind, LatencyStats>>;
}

export const LATENCY_KINDS = ['read', 'write', 'zero', 'discard', 'flush'] as const;
export type LatencyKind = (typeof LATENCY_KINDS)[number];

/** An estimate for requests that are answered at once: many of them are not timed, one of sixteen stands for the others. */
export interface LatencyStats {
  /** Requests by the bucket of their time. */
  readonly buckets: readonly number[];
  /** Of all of them together, in us. */
  readonly total: number;
}

export interface NodeStats extends TrafficStats {
  readonly name: string;
  readonly driver: string;
  readonly kind: 'protocol' | 'format' | 'filter';
  /** Of the file at its bottom; '' where there is none. */
  readonly filename: string;
  readonly size: number;
  readonly allocated?: number | undefined;
  readonly caches: readonly CacheCounters[];
}

export function nodeStats(node: Node): NodeStats {
  const { name, driver, filename, size, counters } = node;
  return {
    name,
    driver: driver.name,
    kind: driver.kind,
    filename,
    size,
    ...(driver.kind === 'filter' ? {} : { allocated: allocatedSize(node) }),
    reads: counters.reads,
    'read-bytes': counters.readBytes,
    writes: counters.writes,
    'written-bytes': counters.writtenBytes,
    zeroes: counters.zeroes,
    discards: counters.discards,
    flushes: counters.flushes,
    slow: counters.slow,
    errors: counters.errors,
    'in-flight': node.underWay,
    caches: node.impl.caches?.() ?? [],
  };
}
