import type { Extent } from '../../../src/block/extent.ts';
import { StatusFlag } from './wire.ts';

/** Milliseconds that an answer is believed: others may write to the export as well. */
const FRESH = 100;

/** The last answer of the server to a block status request, for whoever walks over its pieces. */
export class StatusCache {
  /** What the last try that failed asked for. */
  wanted = { offset: 0, max: 0 };
  private readonly size: number;
  private readonly showsBitmap: boolean;
  private pairs: Buffer = Buffer.alloc(0);
  private start = 0;
  private end = 0;
  private time = 0;
  private generation = 0;
  /** Where the walk stands: index of a pair, and the offset that it begins at. */
  private index = 0;
  private at = 0;

  /** @param showsBitmap the flags are those of a dirty bitmap, shown as QEMU does: what is dirty has no data */
  constructor(size: number, showsBitmap: boolean) {
    this.size = size;
    this.showsBitmap = showsBitmap;
  }

  answer(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    const fresh = performance.now() - this.time < FRESH;
    if (!fresh || offset < this.start || offset >= this.end) {
      this.wanted = { offset, max };
      return false;
    }
    if (offset < this.at) {
      this.index = 0;
      this.at = this.start;
    }
    for (;;) {
      const length = this.lengthOf(this.index);
      if (offset < this.at + length) break;
      this.at += length;
      this.index += 1;
    }
    const flags = this.pairs.readUInt32BE(this.index * 8 + 4);
    const length = Math.min(max, this.at + this.lengthOf(this.index) - offset);
    if (this.showsBitmap && (flags & StatusFlag.hole) !== 0) return out.setUnallocated(length);
    if ((flags & StatusFlag.zero) !== 0) return out.setZero(length, (flags & StatusFlag.hole) === 0);
    return out.setData(undefined, offset, length, true);
  }

  /** A request goes out: its answer holds unless something is changed meanwhile. */
  begin(): number {
    return this.generation;
  }

  /** Whoever waited for the answer has it now. */
  renew(): void {
    this.time = performance.now();
  }

  forget(): void {
    this.generation += 1;
    this.end = this.start;
  }

  /** @returns whether there was anything in the answer; one that came too late is kept for nobody but the one who asked */
  take(pairs: Buffer, asked: { offset: number; length: number }, generation: number): boolean {
    let total = 0;
    for (let at = 0; at < pairs.length; at += 8) total += pairs.readUInt32BE(at);
    if (total === 0) return false;
    if (generation !== this.generation) {
      this.giveUp(this.generation);
      return true;
    }
    this.pairs = pairs;
    this.start = asked.offset;
    this.end = Math.min(this.size, asked.offset + total);
    this.time = performance.now();
    this.index = 0;
    this.at = this.start;
    return true;
  }

  /** What was wanted counts as data: the answer is of no use. */
  giveUp(generation: number): void {
    if (generation !== this.generation) return;
    const { offset, max } = this.wanted;
    const length = Math.min(max, this.size - offset, 2 ** 31);
    this.pairs = Buffer.alloc(8);
    this.pairs.writeUInt32BE(length);
    this.start = offset;
    this.end = offset + length;
    this.time = performance.now();
    this.index = 0;
    this.at = offset;
  }

  private lengthOf(index: number): number {
    return index * 8 < this.pairs.length ? this.pairs.readUInt32BE(index * 8) : Number.POSITIVE_INFINITY;
  }
}
