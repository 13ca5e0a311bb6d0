import { BlockError } from '../../../src/block/errors.ts';
import { ClusterMap } from './cluster-map.ts';
import type { Image } from './image.ts';
import { hostOffset } from './l2-entry.ts';
import type { Snapshot } from './snapshots.ts';

/** Bytes of L1 tables, and L2 tables that they name: what is read and kept on the word of an image. */
const L1_BYTES_MAX = 512 * 1024 * 1024;
const TABLES_MAX = 8 * 1024 * 1024;
const CHUNK = 1024 * 1024;

/** The clusters of all L2 tables that snapshots name. What their L1 tables share is read once. */
export async function inactiveTables(image: Image, snapshots: readonly Snapshot[]): Promise<ClusterMap> {
  const found = new ClusterMap();
  const { clusterSize } = image.geometry;
  const bytes = Buffer.alloc(CHUNK);
  let total = 0;
  for (const { offset, end } of union(snapshots)) {
    total += end - offset;
    if (total > L1_BYTES_MAX) refuse(image, `the L1 tables of its snapshots take over ${L1_BYTES_MAX} bytes`);
    for (let at = offset; at < end; at += CHUNK) {
      const part = bytes.subarray(0, Math.min(CHUNK, end - at));
      await image.file.read(part, at);
      for (let entry = 0; entry < part.length; entry += 8) {
        const table = hostOffset(part.readUInt32BE(entry), part.readUInt32BE(entry + 4));
        if (table !== 0) found.set(Math.floor(table / clusterSize), 1);
      }
    }
    if (found.size > TABLES_MAX) refuse(image, `its snapshots have over ${TABLES_MAX} L2 tables`);
  }
  return found;
}

/** The bytes of all L1 tables, each once. */
function union(snapshots: readonly Snapshot[]): { offset: number; end: number }[] {
  const ranges = snapshots
    .filter(({ l1Entries }) => l1Entries > 0)
    .map(({ l1Offset, l1Entries }) => ({ offset: l1Offset, end: l1Offset + l1Entries * 8 }))
    .sort((one, other) => one.offset - other.offset);
  const apart: { offset: number; end: number }[] = [];
  for (const range of ranges) {
    const last = apart.at(-1);
    if (last !== undefined && range.offset <= last.end) last.end = Math.max(last.end, range.end);
    else apart.push(range);
  }
  return apart;
}

function refuse(image: Image, what: string): never {
  const text = `Cannot look after the L2 tables of snapshots in image "${image.subject}": ${what}; open it with overlap-check.inactive-l2=off`;
  throw new BlockError('EFBIG', text);
}
