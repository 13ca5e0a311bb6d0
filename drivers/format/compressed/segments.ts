/** Pieces of a packed file that can be unpacked each for itself, in the order of the disk, in a few numbers each. */

const MAX = 1_000_000;

export interface Segment {
  readonly index: number;
  /** Bytes of the disk. */
  readonly start: number;
  readonly length: number;
  /** Bytes of the file, and how many bits of the first belong to the segment before. */
  readonly offset: number;
  readonly packed: number;
  readonly skipBits: number;
}

export class SegmentList {
  /** Bytes of the disk. */
  size = 0;
  private readonly starts: number[] = [];
  private readonly offsets: number[] = [];
  private readonly packed: number[] = [];
  private readonly bits: number[] = [];
  private last = 0;

  get count(): number {
    return this.starts.length;
  }

  /** Adds the next one. Returns false when there are too many. Segments of nothing are left out. */
  add(segment: { length: number; offset: number; packed: number; skipBits?: number }): boolean {
    if (segment.length === 0) return true;
    if (this.starts.length >= MAX) return false;
    this.starts.push(this.size);
    this.offsets.push(segment.offset);
    this.packed.push(segment.packed);
    this.bits.push(segment.skipBits ?? 0);
    this.size += segment.length;
    return true;
  }

  /** The largest of all, in bytes of the disk. */
  get longest(): number {
    let longest = 0;
    for (let index = 0; index < this.starts.length; index += 1)
      longest = Math.max(longest, this.lengthOf(index));
    return longest;
  }

  at(index: number): Segment {
    return {
      index,
      start: this.starts[index] ?? 0,
      length: this.lengthOf(index),
      offset: this.offsets[index] ?? 0,
      packed: this.packed[index] ?? 0,
      skipBits: this.bits[index] ?? 0,
    };
  }

  /** Index of the segment that holds a byte of the disk. */
  find(offset: number): number {
    const { starts, last } = this;
    if (
      offset >= (starts[last] ?? Number.POSITIVE_INFINITY) &&
      offset < (starts[last] ?? 0) + this.lengthOf(last)
    )
      return last;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    this.last = low;
    return low;
  }

  private lengthOf(index: number): number {
    return (this.starts[index + 1] ?? this.size) - (this.starts[index] ?? 0);
  }
}
