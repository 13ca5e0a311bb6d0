/** Bytes of the bitmaps extension (specification: "Bitmaps extension", "Bitmaps"), and every rule that they can break. */
import { alignUp } from '../../../../src/util/sizes.ts';
import { readU64, showU64, writeU64 } from '../u64.ts';

export const BITMAPS_MAX = 65535;
export const BITMAP_NAME_MAX = 1023;
export const DIRECTORY_MAX = 64 * 1024 * 1024;
const TABLE_MAX = 32 * 1024 * 1024;
const EXTENSION_LENGTH = 24;
const ENTRY_FIXED = 24;
const GRANULARITY_BITS = { least: 9, most: 31 };
const DIRTY_TRACKING = 1;

export const BitmapFlag = { inUse: 1, auto: 2, extraCompatible: 4 } as const;
const FLAGS_KNOWN = 7;

/** Throws for what is wrong, in words: a field, its value, what it must be. */
export type Refuse = (what: string) => never;

/** The file that offsets point into. */
export interface Place {
  readonly clusterSize: number;
  readonly fileSize: number;
}

export interface DirectoryPlace {
  readonly count: number;
  /** Bytes. */
  readonly length: number;
  readonly offset: number;
}

export interface BitmapEntry {
  readonly name: string;
  /** As it stands in the image. */
  readonly nameBytes: Buffer;
  readonly extra: Buffer;
  readonly flags: number;
  readonly granularity: number;
  readonly tableOffset: number;
  readonly tableEntries: number;
}

export function parseBitmapExtension(data: Buffer, place: Place, refuse: Refuse): DirectoryPlace {
  if (data.length !== EXTENSION_LENGTH)
    refuse(`the bitmaps extension has ${data.length} bytes, must have ${EXTENSION_LENGTH}`);
  const count = data.readUInt32BE(0);
  if (count < 1 || count > BITMAPS_MAX) refuse(`nb_bitmaps is ${count}, must be 1 to ${BITMAPS_MAX}`);
  if (data.readUInt32BE(4) !== 0)
    refuse(`the reserved field of the bitmaps extension is ${data.readUInt32BE(4)}, must be 0`);
  const length = readU64(data, 8);
  const least = count * (ENTRY_FIXED + 8);
  if (!(length >= least && length <= DIRECTORY_MAX))
    refuse(`bitmap_directory_size is ${showU64(data, 8)}, must be ${least} to ${DIRECTORY_MAX}`);
  const offset = readU64(data, 16);
  checkPlace({ what: 'the bitmap directory', offset, length, shown: showU64(data, 16) }, place, refuse);
  return { count, length, offset };
}

export function encodeBitmapExtension({ count, length, offset }: DirectoryPlace): Buffer {
  const data = Buffer.alloc(EXTENSION_LENGTH);
  data.writeUInt32BE(count, 0);
  writeU64(data, length, 8);
  writeU64(data, offset, 16);
  return data;
}

/** The entries in their order. */
export function parseDirectory(bytes: Buffer, count: number, place: Place, refuse: Refuse): BitmapEntry[] {
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const length = entryLength(bytes, at, index, refuse);
    const entry = parseEntry(bytes.subarray(at, at + length), index, place, refuse);
    if (names.has(entry.name)) refuse(`two bitmaps are named "${entry.name}", names must be unique`);
    names.add(entry.name);
    entries.push(entry);
    at += alignUp(length, 8);
  }
  if (at !== bytes.length)
    refuse(`the bitmap directory has ${bytes.length} bytes, its ${count} entries take ${at}`);
  return entries;
}

/** Without its padding. */
function entryLength(bytes: Buffer, at: number, index: number, refuse: Refuse): number {
  const left = bytes.length - at;
  if (left < ENTRY_FIXED)
    refuse(`the bitmap directory ends in entry ${index}: ${left} bytes are left, it needs ${ENTRY_FIXED}`);
  const length = ENTRY_FIXED + bytes.readUInt16BE(at + 18) + bytes.readUInt32BE(at + 20);
  if (alignUp(length, 8) > left)
    refuse(`entry ${index} of the bitmap directory has ${length} bytes, but only ${left} are left`);
  return length;
}

function parseEntry(bytes: Buffer, index: number, place: Place, refuse: Refuse): BitmapEntry {
  const nameLength = bytes.readUInt16BE(18);
  if (nameLength < 1 || nameLength > BITMAP_NAME_MAX)
    refuse(`name_size of bitmap ${index} is ${nameLength}, must be 1 to ${BITMAP_NAME_MAX}`);
  const nameBytes = Buffer.from(bytes.subarray(bytes.length - nameLength));
  const name = nameBytes.toString('utf8');
  const what = `bitmap "${name}"`;
  if (nameBytes.includes(0)) refuse(`the name of ${what} has a NUL character, must have none`);
  const type = bytes[16];
  if (type !== DIRTY_TRACKING)
    refuse(`${what} is of type ${type}, must be ${DIRTY_TRACKING} (dirty tracking bitmap)`);
  const flags = bytes.readUInt32BE(12);
  if (flags > FLAGS_KNOWN)
    refuse(`${what} has flags 0x${flags.toString(16)}, must have none but 0x${FLAGS_KNOWN}`);
  const granularityBits = bytes[17] ?? 0;
  const { least, most } = GRANULARITY_BITS;
  if (granularityBits < least || granularityBits > most)
    refuse(`granularity_bits of ${what} is ${granularityBits}, must be ${least} to ${most}`);
  const tableEntries = bytes.readUInt32BE(8);
  if (tableEntries < 1 || tableEntries * 8 > TABLE_MAX)
    refuse(`bitmap_table_size of ${what} is ${tableEntries}, must be 1 to ${TABLE_MAX / 8}`);
  const tableOffset = readU64(bytes, 0);
  const table = { offset: tableOffset, length: tableEntries * 8, shown: showU64(bytes, 0) };
  checkPlace({ what: `the table of ${what}`, ...table }, place, refuse);
  const extra = Buffer.from(bytes.subarray(ENTRY_FIXED, bytes.length - nameLength));
  return { name, nameBytes, extra, flags, granularity: 2 ** granularityBits, tableOffset, tableEntries };
}

function checkPlace(
  range: { what: string; offset: number; length: number; shown: string },
  { clusterSize, fileSize }: Place,
  refuse: Refuse,
): void {
  const { what, offset, length, shown } = range;
  if (!(offset >= clusterSize) || offset % clusterSize !== 0)
    refuse(
      `${what} is at ${shown}, must be at a multiple of the cluster size ${clusterSize}, behind the header`,
    );
  if (offset + length > fileSize)
    refuse(`${what} is at ${shown} and has ${length} bytes, but the file ends at ${fileSize}`);
}

export function encodeDirectory(entries: readonly BitmapEntry[]): Buffer {
  return Buffer.concat(entries.map(encodeEntry));
}

/** Bytes that an entry takes. */
export function entrySize(nameLength: number, extraLength: number): number {
  return alignUp(ENTRY_FIXED + nameLength + extraLength, 8);
}

function encodeEntry(entry: BitmapEntry): Buffer {
  const { nameBytes, extra } = entry;
  const bytes = Buffer.alloc(entrySize(nameBytes.length, extra.length));
  writeU64(bytes, entry.tableOffset, 0);
  bytes.writeUInt32BE(entry.tableEntries, 8);
  bytes.writeUInt32BE(entry.flags, 12);
  bytes[16] = DIRTY_TRACKING;
  bytes[17] = Math.log2(entry.granularity);
  bytes.writeUInt16BE(nameBytes.length, 18);
  bytes.writeUInt32BE(extra.length, 20);
  extra.copy(bytes, ENTRY_FIXED);
  nameBytes.copy(bytes, ENTRY_FIXED + extra.length);
  return bytes;
}

/** What a table entry says of its piece of the bitmap, when it is no place. */
export const Piece = { zeroes: 0, ones: 1 } as const;

/** For each piece of a bitmap: Piece.zeroes, Piece.ones, or the byte offset of its cluster. */
export function parseTable(bytes: Buffer, name: string, place: Place, refuse: Refuse): number[] {
  const pieces: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const value = readU64(bytes, at);
    const what = `piece ${at / 8} of bitmap "${name}"`;
    if (value !== Piece.zeroes && value !== Piece.ones)
      checkPlace({ what, offset: value, length: 1, shown: showU64(bytes, at) }, place, refuse);
    pieces.push(value);
  }
  return pieces;
}

export function encodeTable(pieces: readonly number[]): Buffer {
  const bytes = Buffer.alloc(pieces.length * 8);
  for (const [index, value] of pieces.entries()) writeU64(bytes, value, index * 8);
  return bytes;
}
