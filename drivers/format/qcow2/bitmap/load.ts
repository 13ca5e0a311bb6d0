import type { Child } from '../../../../src/block/child.ts';
import { DirtyBitmap } from '../../../../src/block/dirty-bitmap.ts';
import type { HeaderExtension } from '../extensions.ts';
import { BitPages } from '../../../../src/util/bit-pages.ts';
import { ExtensionType } from '../extensions.ts';
import { ClusterRanges } from '../cluster-ranges.ts';
import { Autoclear } from '../features.ts';
import type { Header } from '../header.ts';
import { BitmapFlag, parseBitmapExtension, parseDirectory, parseTable, Piece } from './directory.ts';
import type { BitmapEntry, DirectoryPlace, Place, Refuse } from './directory.ts';
import { BitmapList } from './list.ts';
import type { BitmapPlace, BitmapRecord, TakenRange } from './list.ts';

/**
 * What one bitmap (as QEMU has it), or all tables, or all bitmaps of an image may take. Of memory a bitmap takes no more than what
 * the file really holds of it: pieces that it says are all zeroes or ones take none, and no two may lie in one place.
 */
export const BITMAP_BYTES_MAX = 512 * 1024 * 1024;
const TABLES_BYTES_MAX = 64 * 1024 * 1024;
export const BITMAPS_BYTES_MAX = 2 * BITMAP_BYTES_MAX;

export interface BitmapSource {
  readonly file: Child;
  readonly header: Header;
  readonly extensions: readonly HeaderExtension[];
}

/** Whether the image says that its bitmaps extension is right. */
export function vouchesForBitmaps(header: Header): boolean {
  return header.version >= 3 && (header.autoclear_features & Autoclear.bitmaps) !== 0n;
}

/**
 * The bitmaps of an image. Where the header does not vouch for them all are inconsistent, and none where they can't even be
 * read.
 */
export async function loadBitmaps(source: BitmapSource, refuse: Refuse): Promise<BitmapList> {
  const { header, extensions } = source;
  const found = extensions.filter(({ type }) => type === ExtensionType.bitmaps);
  const [extension] = found;
  if (extension === undefined || header.version < 3) return new BitmapList([], undefined);
  if (found.length > 1) refuse(`there are ${found.length} bitmaps extensions, must be at most one`);
  if (vouchesForBitmaps(header)) return loadTrusted(source, extension.data, refuse);
  const entries = await readDirectory(source, extension.data, refuse)
    .then((directory) => directory.entries)
    .catch(() => []);
  return new BitmapList(entries.map(untrusted), undefined);
}

/** The directory of bitmaps, checked; tables and pieces are not looked at. */
export async function readDirectory(
  source: BitmapSource,
  extension: Buffer,
  refuse: Refuse,
): Promise<{ directory: DirectoryPlace; entries: BitmapEntry[] }> {
  const place = placeOf(source);
  const directory = parseBitmapExtension(extension, place, refuse);
  const bytes = Buffer.alloc(directory.length);
  await source.file.read(bytes, directory.offset);
  return { directory, entries: parseDirectory(bytes, directory.count, place, refuse) };
}

export async function readBitmapTable(
  source: BitmapSource,
  { name, tableEntries, tableOffset }: BitmapEntry,
  refuse: Refuse,
): Promise<BitmapPlace> {
  const bytes = Buffer.alloc(tableEntries * 8);
  await source.file.read(bytes, tableOffset);
  return { tableOffset, pieces: parseTable(bytes, name, placeOf(source), refuse) };
}

async function loadTrusted(source: BitmapSource, extension: Buffer, refuse: Refuse): Promise<BitmapList> {
  const { directory, entries } = await readDirectory(source, extension, refuse);
  checkMemory(entries, source.header, refuse);
  const records: BitmapRecord[] = [];
  for (const entry of entries) {
    const place = await readBitmapTable(source, entry, refuse);
    records.push(await loadOne(source, entry, place));
  }
  const list = new BitmapList(records, directory);
  checkOverlap(list, source, refuse);
  return list;
}

/** A bitmap that is not used is loaded by name only. */
function isUsable({ flags, extra }: BitmapEntry): boolean {
  const known = extra.length === 0 || (flags & BitmapFlag.extraCompatible) !== 0;
  return known && (flags & BitmapFlag.inUse) === 0;
}

function checkMemory(entries: readonly BitmapEntry[], header: Header, refuse: Refuse): void {
  let tables = 0;
  let bits = 0;
  for (const entry of entries) {
    const { name, granularity, tableEntries } = entry;
    tables += tableEntries * 8;
    if (tables > TABLES_BYTES_MAX)
      refuse(`the bitmap tables have ${tables} bytes and more, must have at most ${TABLES_BYTES_MAX}`);
    if (!isUsable(entry)) continue;
    const bytes = DirtyBitmap.bytesFor(header.size, granularity);
    if (bytes > BITMAP_BYTES_MAX)
      refuse(`bitmap "${name}" would take ${bytes} bytes, must take at most ${BITMAP_BYTES_MAX}`);
    const wanted = Math.max(1, Math.ceil(bytes / 2 ** header.cluster_bits));
    if (tableEntries !== wanted && header.size > 0)
      refuse(
        `bitmap_table_size of bitmap "${name}" is ${tableEntries}, must be ${wanted} for ${header.size} bytes at a granularity of ${granularity}`,
      );
    bits += bytes;
    if (bits > BITMAPS_BYTES_MAX)
      refuse(`the bitmaps would take ${bits} bytes and more, must take at most ${BITMAPS_BYTES_MAX}`);
  }
}

async function loadOne(source: BitmapSource, entry: BitmapEntry, place: BitmapPlace): Promise<BitmapRecord> {
  const { name, granularity, flags, nameBytes, extra } = entry;
  const inconsistent = !isUsable(entry);
  const { size } = source.header;
  const bitmap = new DirtyBitmap({ name, granularity, size, persistent: true, inconsistent });
  if (!inconsistent) {
    const bits = new BitPages(bitmap.content.length);
    await readBits(source, place, bits);
    bitmap.restore(bits);
    bitmap.enabled = (flags & BitmapFlag.auto) !== 0;
  }
  return { bitmap, nameBytes, extra, flags, place };
}

async function readBits({ file, header }: BitmapSource, place: BitmapPlace, bits: BitPages): Promise<void> {
  const clusterSize = 2 ** header.cluster_bits;
  const cluster = Buffer.allocUnsafe(clusterSize);
  for (const [index, piece] of place.pieces.entries()) {
    const at = index * clusterSize;
    const bytes = cluster.subarray(0, Math.min(clusterSize, bits.byteLength - at));
    if (piece === Piece.zeroes || bytes.length === 0) continue;
    if (piece !== Piece.ones) await file.read(bytes, piece);
    bits.write(piece === Piece.ones ? { value: 0xff, length: clusterSize } : bytes, at);
  }
}

/** Nothing of the bitmaps may lie where something else of them or of the header's own tables is. */
function checkOverlap(list: BitmapList, { header }: BitmapSource, refuse: Refuse): void {
  const clusterSize = 2 ** header.cluster_bits;
  const taken = new ClusterRanges((one, other) => {
    refuse(`${other.what} is at ${other.first * clusterSize}, where ${one.what} is`);
  });
  const fixed = [
    { offset: 0, length: 1, what: 'the header' },
    { offset: header.l1_table_offset, length: header.l1_size * 8, what: 'the L1 table' },
    {
      offset: header.refcount_table_offset,
      length: header.refcount_table_clusters * clusterSize,
      what: 'the refcount table',
    },
    { offset: header.snapshots_offset, length: header.nb_snapshots, what: 'the snapshot table' },
  ];
  const add = ({ offset, length, what }: TakenRange): void => {
    taken.add(Math.floor(offset / clusterSize), Math.ceil((offset + length) / clusterSize), what);
  };
  fixed.forEach(add);
  for (const range of list.taken(clusterSize)) add(range);
  taken.sort();
}

/** Its clusters may be somebody else's by now: they are left alone. */
function untrusted({ name, nameBytes, granularity, flags }: BitmapEntry): BitmapRecord {
  const bitmap = new DirtyBitmap({ name, granularity, size: 0, persistent: true, inconsistent: true });
  return {
    bitmap,
    nameBytes,
    extra: Buffer.alloc(0),
    flags: (flags & BitmapFlag.auto) | BitmapFlag.inUse,
    place: undefined,
  };
}

function placeOf({ file, header }: BitmapSource): Place {
  return { clusterSize: 2 ** header.cluster_bits, fileSize: file.size };
}
