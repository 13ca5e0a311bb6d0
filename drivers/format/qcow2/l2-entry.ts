import type { Image } from './image.ts';

/** L2 entries (specification: "Cluster mapping", "Extended L2 Entries"), as two or four 32-bit words: no BigInt, no overflow. */

export const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
const COMPRESSED = 0x40000000;
export const COPIED_WORD = 0x80000000;
export const ZERO_BIT = 1;
const WORD = 2 ** 32;
export const SUBCLUSTERS = 32;
export const ALL_SUBCLUSTERS = 0xffffffff;

/** Bits of the subclusters [from, to). */
export function subclusterMask(from: number, to: number): number {
  return to - from === SUBCLUSTERS ? ALL_SUBCLUSTERS : (((1 << (to - from)) - 1) << from) >>> 0;
}

export const isCopied = (high: number): boolean => high >= COPIED_WORD;
export const isCompressed = (high: number): boolean => (high & COMPRESSED) !== 0;
export const hostOffset = (high: number, low: number): number =>
  (high & OFFSET_HIGH) * WORD + ((low & OFFSET_LOW) >>> 0);

/** Writes the first 64 bits of an entry: a place, and whether only this entry names it. */
export function writePlace(bytes: Buffer, at: number, offset: number, copied: boolean): void {
  bytes.writeUInt32BE(Math.floor(offset / WORD) + (copied ? COPIED_WORD : 0), at);
  bytes.writeUInt32BE(offset % WORD, at + 4);
}

/**
 * What a cluster is. `reserved`: reads as zeroes and has a place. With extended L2 entries only `unallocated` (no place),
 * `data` (a place, whatever the bitmap says) and `compressed` occur.
 */
export const Kind = { unallocated: 0, data: 1, zero: 2, reserved: 3, compressed: 4 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** One entry taken apart; reused, so that reading one allocates nothing. */
export class L2Entry {
  kind: Kind = Kind.unallocated;
  high = 0;
  low = 0;
  /** Host offset of the cluster where it has a place; for compressed ones see compressed-place.ts. */
  offset = 0;
  copied = false;
  /** Extended: bit n set: subcluster n is allocated. */
  allocated = 0;
  /** Extended: bit n set: subcluster n reads as zeroes. */
  zeroes = 0;
  private readonly image: Image;
  private readonly entrySize: number;

  constructor(image: Image) {
    this.image = image;
    this.entrySize = image.geometry.entrySize;
  }

  /** @param guest guest offset of the cluster, for the check of external data files and for messages */
  read(bytes: Buffer, index: number, guest: number): this {
    const at = index * this.entrySize;
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    this.high = high;
    this.low = low;
    this.copied = isCopied(high);
    this.offset = hostOffset(high, low);
    if (this.entrySize === 16) {
      this.zeroes = bytes.readUInt32BE(at + 8);
      this.allocated = bytes.readUInt32BE(at + 12);
    }
    this.kind = this.kindOf(high, low);
    if (this.kind === Kind.data || this.kind === Kind.reserved) this.checkPlace(guest);
    if (this.kind === Kind.unallocated && this.entrySize === 16 && this.allocated !== 0) {
      this.image.corrupt(`the L2 entry of guest offset ${guest} has subclusters allocated, but no place`);
    }
    return this;
  }

  private kindOf(high: number, low: number): Kind {
    if (isCompressed(high)) return Kind.compressed;
    const { external, geometry } = this.image;
    const placed = this.offset !== 0 || (external && this.copied);
    if (this.entrySize === 8 && (low & ZERO_BIT) !== 0) {
      if (geometry.version < 3)
        this.image.corrupt('an L2 entry has the zero flag, which version 2 does not have');
      return placed ? Kind.reserved : Kind.zero;
    }
    return placed ? Kind.data : Kind.unallocated;
  }

  private checkPlace(guest: number): void {
    const { clusterSize, entrySize } = this.image.geometry;
    if (this.offset % clusterSize !== 0 || !Number.isSafeInteger(this.offset)) {
      const what = `the L2 entry of guest offset ${guest} is ${this.offset}`;
      this.image.corrupt(`${what}, must be a multiple of the cluster size ${clusterSize}`);
    }
    if (this.image.external && this.offset !== guest) {
      this.image.corrupt(
        `the L2 entry of guest offset ${guest} is ${this.offset}, must be equal with an external data file`,
      );
    }
    if (entrySize === 16 && (this.zeroes & this.allocated) !== 0) {
      this.image.corrupt(
        `the subcluster bitmap at guest offset ${guest} has subclusters both allocated and zero`,
      );
    }
  }
}
