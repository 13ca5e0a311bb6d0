import type { SparseGeometry } from './geometry.ts';
import { BAD_ENTRY, FIRST_PLACE } from './geometry.ts';

/** Bytes of an entry in the file: seSparse has 64 bits, the others 32. */
export const entryWidth = (geometry: SparseGeometry): 4 | 8 => (geometry.format === 'sesparse' ? 8 : 4);

/** Entries of a grain directory, in the meaning of geometry.ts. */
export function decodeDirectory(geometry: SparseGeometry, bytes: Buffer, entries: Uint32Array): void {
  if (geometry.format === 'sesparse') decodeWide(bytes, entries, seSparseTable);
  else decodeSectors(bytes, entries);
}

/** Entries of a grain table, in the meaning of geometry.ts. */
export function decodeTable(geometry: SparseGeometry, bytes: Buffer, entries: Uint32Array): void {
  if (geometry.format === 'sesparse') decodeWide(bytes, entries, seSparseGrain);
  else decodeSectors(bytes, entries);
}

/** Only for formats with entries of 32 bits: the others are not written. */
export function encodeEntries(entries: Uint32Array, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (const [index, entry] of entries.entries()) bytes.writeUInt32LE(entry, index * 4);
  return bytes;
}

function decodeSectors(bytes: Buffer, entries: Uint32Array): void {
  for (let index = 0; index < entries.length; index += 1) entries[index] = bytes.readUInt32LE(index * 4);
}

function decodeWide(
  bytes: Buffer,
  entries: Uint32Array,
  meaning: (high: number, low: number) => number,
): void {
  for (let index = 0; index < entries.length; index += 1) {
    entries[index] = meaning(bytes.readUInt32LE(index * 8 + 4), bytes.readUInt32LE(index * 8));
  }
}

/** 0, or 0x10000000 in the high half and the number of the table in the low one. */
function seSparseTable(high: number, low: number): number {
  if (high === 0 && low === 0) return 0;
  return high === 0x10000000 && low < BAD_ENTRY - FIRST_PLACE ? low + FIRST_PLACE : BAD_ENTRY;
}

/**
 * The upper 4 bits are the kind: 0 no grain, 1 unmapped by the guest, 2 zeroes, 3 stored. The number of a stored grain
 * is rotated: its lower 12 bits are bits 48 to 59, the rest is bits 0 to 47.
 */
function seSparseGrain(high: number, low: number): number {
  switch (high >>> 28) {
    case 0:
      return high === 0 && low === 0 ? 0 : BAD_ENTRY;
    case 1:
    case 2:
      return 1;
    case 3: {
      const grain = ((high & 0xffff) * 2 ** 32 + low) * 4096 + ((high >>> 16) & 0xfff);
      return grain < BAD_ENTRY - FIRST_PLACE ? grain + FIRST_PLACE : BAD_ENTRY;
    }
    default:
      return BAD_ENTRY;
  }
}
