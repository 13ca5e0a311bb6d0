import type { Image } from '../image.ts';
import { COPIED_WORD } from '../l2-entry.ts';
import { l2TableAt } from './table-walk.ts';

/** A disk by its L1 table; the L2 tables are read from the file. */
export interface DiskTables {
  readonly l1: Buffer;
  /** Bytes of the disk. */
  readonly size: number;
}

/**
 * Where two disks of one image may differ. What both have at the same place is the same: a cluster that a snapshot names is
 * never written again, so tables alone tell, and what both share is not even read. Bytes behind the end of the first differ.
 * @param note called for ranges in order, whole clusters but for the end of the second disk
 */
export async function noteChanges(
  image: Image,
  from: DiskTables,
  to: DiskTables,
  note: (offset: number, length: number) => void,
): Promise<void> {
  const { tableSpan, clusterSize, entrySize } = image.geometry;
  const both = Math.min(from.size, to.size);
  const before = Buffer.alloc(clusterSize);
  const after = Buffer.alloc(clusterSize);
  for (let index = 0; index * tableSpan < both; index += 1) {
    const was = tableOf(image, from, index);
    const is = tableOf(image, to, index);
    if (was === is) continue;
    await readTable(image, was, before);
    await readTable(image, is, after);
    let guest = index * tableSpan;
    for (let at = 0; at < clusterSize && guest < both; at += entrySize, guest += clusterSize) {
      if (!isSame(before, after, at, entrySize)) note(guest, Math.min(clusterSize, both - guest));
    }
  }
  if (to.size > both) note(both, to.size - both);
}

const tableOf = (image: Image, { l1 }: DiskTables, index: number): number =>
  index * 8 < l1.length ? l2TableAt(image, l1, index) : 0;

async function readTable(image: Image, offset: number, bytes: Buffer): Promise<void> {
  if (offset === 0) bytes.fill(0);
  else await image.file.read(bytes, offset);
}

/** But for the flag of unshared clusters. */
function isSame(one: Buffer, other: Buffer, at: number, entrySize: number): boolean {
  if (((one.readUInt32BE(at) ^ other.readUInt32BE(at)) & ~COPIED_WORD) !== 0) return false;
  for (let word = 4; word < entrySize; word += 4)
    if (one.readUInt32BE(at + word) !== other.readUInt32BE(at + word)) return false;
  return true;
}
