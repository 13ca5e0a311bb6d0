import { alignUp } from '../../../../src/util/sizes.ts';
import type { Image } from '../image.ts';
import { decodeSnapshot, SNAPSHOT_FIXED } from '../snapshot/entry.ts';
import { EXTRA_MAX, SNAPSHOT_L1_MAX, SNAPSHOT_TABLE_MAX } from '../snapshots.ts';
import type { Snapshot } from '../snapshots.ts';
import type { References } from './references.ts';

export const SNAPSHOTS_MAX = 65536;
const EXTRA_REQUIRED = 16;
const TEXT_MAX = 65535;
/** How the L1 table of a snapshot is called. */
export const L1_OF_SNAPSHOT = 'the L1 table of snapshot';

/** An entry as it stands. */
export interface ListedSnapshot {
  readonly snapshot: Snapshot;
  readonly index: number;
  /** Bytes of the entry from the start of the list. */
  readonly start: number;
  readonly end: number;
  /** Why its disk can't be found; undefined: it can. */
  readonly unusable: string | undefined;
}

/** Reads the whole list, whatever state it is in; behind the end of the file it is zeroes. */
export async function readList(image: Image, offset: number): Promise<Buffer> {
  const { nb_snapshots: count } = image.header.fields;
  const most = Math.min(count, SNAPSHOTS_MAX) * (SNAPSHOT_FIXED + EXTRA_MAX + 2 * TEXT_MAX);
  const inFile = Math.max(0, image.file.size - offset);
  const bytes = Buffer.alloc(Math.min(most, SNAPSHOT_TABLE_MAX, Math.max(inFile, 4096)));
  await image.file.read(bytes, offset);
  return bytes;
}

/** The entries, each behind the other. */
export function parseList(bytes: Buffer, references: References): ListedSnapshot[] {
  const { image } = references;
  const list: ListedSnapshot[] = [];
  const count = Math.min(image.header.fields.nb_snapshots, SNAPSHOTS_MAX);
  let start = 0;
  for (let index = 0; index < count; index += 1) {
    const end = entryEnd(bytes, start);
    const whole = bytes.subarray(start, Math.min(end, bytes.length));
    const entry =
      end <= bytes.length ? whole : Buffer.concat([whole, Buffer.alloc(end - start - whole.length)]);
    const snapshot = decodeSnapshot(entry, image.size);
    list.push({ snapshot, index, start, end, unusable: whyUnusable(snapshot, references) });
    start = alignUp(end, 8);
    if (start >= bytes.length && list.length > 1 && isBlank(snapshot)) break;
  }
  return list;
}

function entryEnd(bytes: Buffer, start: number): number {
  if (start + SNAPSHOT_FIXED > bytes.length) return start + SNAPSHOT_FIXED;
  const texts = bytes.readUInt16BE(start + 12) + bytes.readUInt16BE(start + 14);
  return start + SNAPSHOT_FIXED + Math.min(bytes.readUInt32BE(start + 36), SNAPSHOT_TABLE_MAX) + texts;
}

/** Version 3 has the sizes of disk and VM state in the extra data. */
export function isIncomplete({ extra }: Snapshot, image: Image): boolean {
  return image.geometry.version >= 3 && extra.length < EXTRA_REQUIRED;
}

export function hasTooMuchExtra({ extra }: Snapshot): boolean {
  return extra.length > EXTRA_MAX;
}

export function isBlank({ l1Offset, l1Entries, idBytes, nameBytes }: Snapshot): boolean {
  return l1Offset === 0 && l1Entries === 0 && idBytes.length + nameBytes.length === 0;
}

/** An L1 table that several snapshots share is none of their faults. */
export function whyUnusable(snapshot: Snapshot, references: References): string | undefined {
  const { image } = references;
  const { l1Offset, l1Entries } = snapshot;
  const { clusterSize } = image.geometry;
  if (isBlank(snapshot)) return 'it is blank';
  if (!(l1Offset >= clusterSize) || l1Offset % clusterSize !== 0)
    return `its L1 table is at ${l1Offset}, must be a multiple of the cluster size ${clusterSize}`;
  if (l1Entries * 8 > SNAPSHOT_L1_MAX)
    return `its L1 table has ${l1Entries} entries, must have at most ${SNAPSHOT_L1_MAX / 8}`;
  if (!(l1Offset + l1Entries * 8 - image.file.size < clusterSize))
    return `its L1 table is at ${l1Offset}, ${l1Entries * 8} bytes long, but the file ends at ${image.file.size}`;
  const last = Math.floor((l1Offset + Math.max(0, l1Entries * 8 - 1)) / clusterSize);
  for (let cluster = l1Offset / clusterSize; cluster <= last; cluster += 1) {
    const other = references.tableAt(cluster);
    if (other !== undefined && !other.startsWith(L1_OF_SNAPSHOT)) return `its L1 table is where ${other} is`;
  }
  return undefined;
}

export function describeSnapshot({ snapshot, index }: ListedSnapshot): string {
  return `snapshot ${index} (id "${snapshot.id.slice(0, 100)}", name "${snapshot.name.slice(0, 100)}")`;
}
