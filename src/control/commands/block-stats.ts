import type { Node } from '../../block/node.ts';

const NOT_COUNTED = {
  rd_total_time_ns: 0,
  wr_total_time_ns: 0,
  flush_total_time_ns: 0,
  unmap_total_time_ns: 0,
  rd_merged: 0,
  wr_merged: 0,
  unmap_merged: 0,
  invalid_rd_operations: 0,
  invalid_wr_operations: 0,
  invalid_flush_operations: 0,
  invalid_unmap_operations: 0,
  account_invalid: false,
  account_failed: true,
  timed_stats: [],
} as const;

/** The counters of a node, of its file and of its backing node, as `query-blockstats` has them. What is not counted is 0. */
export function blockStats(node: Node): Readonly<Record<string, unknown>> {
  const { counters, cow } = node;
  const file = node.children.get('file');
  return {
    'node-name': node.name,
    stats: {
      ...NOT_COUNTED,
      rd_operations: counters.reads,
      rd_bytes: counters.readBytes,
      wr_operations: counters.writes,
      wr_bytes: counters.writtenBytes,
      flush_operations: counters.flushes,
      unmap_operations: counters.discards,
      unmap_bytes: counters.discardedBytes,
      wr_highest_offset: counters.writtenEnd,
      failed_rd_operations: counters.failed.read,
      failed_wr_operations: counters.failed.write,
      failed_flush_operations: counters.failed.flush,
      failed_unmap_operations: counters.failed.discard,
    },
    ...(file === undefined ? {} : { parent: blockStats(file.node) }),
    ...(cow === undefined ? {} : { backing: blockStats(cow.node) }),
  };
}
