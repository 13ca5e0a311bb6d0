import { readU64, writeU64 } from './u64.ts';

/** Refcounts of 1 to 64 bits in a refcount block. Below a byte, the first one has the lowest bits (specification). */

/** The refcount number `index` of a block or page; NaN when it is over 2^53. */
export function readRefcount(bytes: Buffer, index: number, bits: number): number {
  if (bits === 16) return bytes.readUInt16BE(index * 2);
  if (bits === 8) return bytes[index] ?? 0;
  if (bits === 32) return bytes.readUInt32BE(index * 4);
  if (bits === 64) return readU64(bytes, index * 8);
  const bit = index * bits;
  return ((bytes[bit >> 3] ?? 0) >> (bit & 7)) & ((1 << bits) - 1);
}

/** @param value must fit the width */
export function writeRefcount(bytes: Buffer, index: number, bits: number, value: number): void {
  if (bits === 16) bytes.writeUInt16BE(value, index * 2);
  else if (bits === 8) bytes[index] = value;
  else if (bits === 32) bytes.writeUInt32BE(value, index * 4);
  else if (bits === 64) writeU64(bytes, value, index * 8);
  else {
    const bit = index * bits;
    const mask = ((1 << bits) - 1) << (bit & 7);
    bytes[bit >> 3] = ((bytes[bit >> 3] ?? 0) & ~mask) | (value << (bit & 7));
  }
}

/** Largest value of a width, as far as numbers go. */
export function refcountMax(bits: number): number {
  return bits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** bits - 1;
}
