import { LATENCY_BOUNDS } from '../../../mount/latency.ts';
import type { Latencies, Latency } from '../../../mount/latency.ts';
import { allocatedSize } from '../../block/storage.ts';
import { nodeStats } from '../../control/stats.ts';
import type { ExportStats, LatencyKind, LatencyStats, StatsReport } from '../../control/stats.ts';
import { VERSION } from '../version.ts';
import type { DiskExport } from './disk-export.ts';
import type { Server } from './server.ts';

/** What went through a server. */
export function reportStats({ graph, exports, started }: Server): StatsReport {
  const { user, system } = process.cpuUsage();
  return {
    pid: process.pid,
    version: VERSION,
    started,
    time: Date.now(),
    uptime: process.uptime(),
    memory: process.memoryUsage.rss(),
    'cpu-seconds': (user + system) / 1e6,
    'latency-bounds': LATENCY_BOUNDS,
    exports: exports.all.map(exportStats),
    nodes: [...graph.nodes.values()].map(nodeStats),
  };
}

function exportStats(disk: DiskExport): ExportStats {
  const { spec, node, fuse, place, file } = disk;
  const { counters } = fuse;
  return {
    id: spec.id,
    node: node.name,
    file: place?.fileOf(disk) ?? '',
    mountpoint: place?.path ?? '',
    writable: fuse.options.writable,
    size: node.size,
    allocated: allocatedSize(node),
    passthrough: place?.mounted?.isPassed(file) ?? false,
    reads: counters.reads,
    'read-bytes': counters.bytesRead,
    writes: counters.writes,
    'written-bytes': counters.bytesWritten,
    zeroes: counters.zeroes,
    discards: counters.discards,
    flushes: counters.flushes,
    slow: counters.slow,
    errors: counters.failed,
    'in-flight': fuse.underWay,
    latency: latencyStats(fuse.latencies),
  };
}

function latencyStats({ read, write, zero, discard, flush }: Latencies): Record<LatencyKind, LatencyStats> {
  const one = ({ buckets, total }: Latency): LatencyStats => ({ buckets: [...buckets], total });
  return { read: one(read), write: one(write), zero: one(zero), discard: one(discard), flush: one(flush) };
}
