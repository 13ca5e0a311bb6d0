import { OFFSET_HIGH } from './l2-entry.ts';

const SECTOR = 512;
const COMPRESSED = 0x40000000;
const WORD = 2 ** 32;
const DESCRIPTOR_HIGH = 0x3fffffff;

/** Where the bytes of a compressed cluster are: they end somewhere in the last of whole sectors. */
export class CompressedPlace {
  /** Byte offset in the file; not aligned. */
  offset = 0;
  /** Bytes to the end of the last sector. */
  length = 0;

  /**
   * Specification: "Compressed Clusters Descriptor".
   * @param offsetBits bits of the offset, Geometry.compressedOffsetBits (always 49 or more)
   */
  decode(high: number, low: number, offsetBits: number): this {
    const split = 2 ** (offsetBits - 32);
    const descriptor = high & DESCRIPTOR_HIGH;
    this.offset = (descriptor % split) * WORD + low;
    const sectors = Math.floor(descriptor / split) + 1;
    this.length = sectors * SECTOR - (this.offset % SECTOR);
    return this;
  }

  /** Writes an entry for `length` bytes at `offset`; the copied bit of a compressed cluster is always 0. */
  static encode(bytes: Buffer, at: number, place: { offset: number; length: number }, bits: number): void {
    const { offset, length } = place;
    const sectors = Math.floor((offset + length - 1) / SECTOR) - Math.floor(offset / SECTOR);
    const high = COMPRESSED + sectors * 2 ** (bits - 32) + Math.floor(offset / WORD);
    bytes.writeUInt32BE(high, at);
    bytes.writeUInt32BE(offset % WORD, at + 4);
  }

  /** Bits of the offset that must be 0 are. */
  get sane(): boolean {
    return (
      Math.floor(this.offset / WORD) <= OFFSET_HIGH && Number.isSafeInteger(this.offset) && this.offset > 0
    );
  }
}
