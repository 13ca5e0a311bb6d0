import type { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import type { Placement } from '../../../src/block/extent.ts';

interface Hole {
  offset: number;
  length: number;
}

/** More holes than this are not remembered: their room is lost until the disk is copied to a new image. */
const MAX_HOLES = 65536;

/** Room for grains: holes of the file that no table on disk names, then what lies behind its end. */
export class GrainSpace {
  private readonly file: Child;
  private readonly end: AppendAllocator;
  private readonly holes: Hole[] = [];

  /** @param end gives out what is behind the end of the file, in whole grains */
  constructor(file: Child, end: AppendAllocator) {
    this.file = file;
    this.end = end;
  }

  /** Names a place of at most `length` bytes (whole grains): sets child, offset, length, zeroed. False: load. */
  tryTake(length: number, out: Placement): boolean {
    const hole = this.holes.at(-1);
    out.child = this.file;
    out.length = length;
    if (hole === undefined) {
      out.zeroed = true;
      out.offset = this.end.tryTakeFresh(length);
      return out.offset >= 0;
    }
    out.zeroed = false;
    out.offset = hole.offset;
    if (hole.length > length) {
      hole.offset += length;
      hole.length -= length;
      return true;
    }
    out.length = hole.length;
    this.holes.pop();
    return true;
  }

  /** A place in one piece that reads as zeroes; -1: load. */
  tryTakeFresh(length: number): number {
    return this.end.tryTakeFresh(length);
  }

  giveBack(offset: number, length: number): void {
    const last = this.holes.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else if (this.holes.length < MAX_HOLES) this.holes.push({ offset, length });
  }

  get unit(): number {
    return this.end.unit;
  }

  load(): Promise<void> {
    return this.end.load();
  }

  trim(): Promise<void> {
    return this.end.trim();
  }
}
