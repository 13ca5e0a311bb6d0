/**
 * The sector bitmaps of blocks, as far as they are in memory. One stands in front of each block's data, first sector in
 * the highest bit; a set bit says that the sector is stored in the block.
 *
 * A bitmap is `fresh` until it was written once: nothing on disk names its block before, so it may go to disk together
 * with the data. Later changes of it may only follow the data.
 */
import type { Child } from '../../../src/block/child.ts';
import { setBits } from '../../../src/util/bits.ts';

const CACHE_BYTES = 16 * 1024 * 1024;
const MSB_FIRST = true;

export interface Bitmap {
  readonly bits: Buffer;
  /** Where it stands in the file. */
  readonly offset: number;
  /** Allocations under way, and the wait for being written: not dropped. */
  holds: number;
  dirty: 'no' | 'fresh' | 'used';
}

export interface BitmapChange {
  readonly bitmap: Bitmap;
  readonly bytes: Buffer;
  readonly fresh: boolean;
}

export class SectorBitmaps {
  /** Bytes of one bitmap in the file: whole sectors. */
  readonly length: number;
  /** Every bit that counts is set: shared by all such blocks, never changed. */
  readonly full: Buffer;
  private readonly file: Child;
  private readonly sectors: number;
  private readonly maxCount: number;
  private readonly bitmaps = new Map<number, Bitmap>();
  private lastBlock = -1;
  private lastBits: Buffer | undefined = undefined;

  constructor(file: Child, blockSize: number) {
    this.file = file;
    this.sectors = blockSize / 512;
    this.length = Math.ceil(this.sectors / 8 / 512) * 512;
    this.full = Buffer.alloc(this.length, 0xff);
    this.maxCount = Math.max(64, Math.floor(CACHE_BYTES / this.length));
  }

  get(block: number): Buffer | undefined {
    if (block === this.lastBlock) return this.lastBits;
    const bits = this.bitmaps.get(block)?.bits;
    if (bits === undefined) return undefined;
    this.lastBlock = block;
    this.lastBits = bits;
    return bits;
  }

  /** Reads the bitmap of a block whose place begins at `offset` of the file. */
  async load(block: number, offset: number): Promise<void> {
    const bits = Buffer.alloc(this.length);
    await this.file.read(bits, offset);
    if (this.bitmaps.has(block)) return;
    this.makeRoom();
    this.bitmaps.set(block, { bits: this.isFull(bits) ? this.full : bits, offset, holds: 0, dirty: 'no' });
  }

  /** Too many that may not be dropped: write back before the next load. */
  get isCrowded(): boolean {
    return this.bitmaps.size >= this.maxCount * 2;
  }

  hold(block: number): void {
    const bitmap = this.bitmaps.get(block);
    if (bitmap !== undefined) bitmap.holds += 1;
  }

  release(block: number): void {
    const bitmap = this.bitmaps.get(block);
    if (bitmap !== undefined) bitmap.holds -= 1;
  }

  /** The bitmap of a new block whose place begins at `offset`; all set, or none. */
  create(block: number, offset: number, isFull: boolean): void {
    const bits = isFull ? this.full : Buffer.alloc(this.length);
    this.bitmaps.set(block, { bits, offset, holds: 0, dirty: 'fresh' });
    this.lastBlock = -1;
  }

  drop(block: number): void {
    this.bitmaps.delete(block);
    this.lastBlock = -1;
  }

  /** Marks sectors [from, to) of a block as stored in it. */
  set(block: number, from: number, to: number): void {
    const bitmap = this.bitmaps.get(block);
    if (bitmap === undefined || bitmap.bits === this.full) return;
    setBits(bitmap.bits, from, to, MSB_FIRST);
    if (bitmap.dirty === 'no') bitmap.dirty = 'used';
  }

  /** Hands out all changes. Exactly one of `written` and `restore` must follow. */
  takeChanges(): BitmapChange[] {
    const changes: BitmapChange[] = [];
    for (const bitmap of this.bitmaps.values()) {
      if (bitmap.dirty === 'no') continue;
      const bytes = bitmap.bits === this.full ? this.full : Buffer.from(bitmap.bits);
      changes.push({ bitmap, bytes, fresh: bitmap.dirty === 'fresh' });
      bitmap.dirty = 'no';
      bitmap.holds += 1;
    }
    return changes;
  }

  written(changes: readonly BitmapChange[]): void {
    for (const { bitmap } of changes) bitmap.holds -= 1;
  }

  /** The changes did not reach the file: they are due again. */
  restore(changes: readonly BitmapChange[]): void {
    for (const { bitmap, fresh } of changes) {
      bitmap.holds -= 1;
      bitmap.dirty = fresh ? 'fresh' : 'used';
    }
  }

  private makeRoom(): void {
    if (this.bitmaps.size < this.maxCount) return;
    for (const [block, { holds, dirty }] of this.bitmaps) {
      if (holds > 0 || dirty !== 'no') continue;
      this.drop(block);
      if (this.bitmaps.size < this.maxCount) return;
    }
  }

  private isFull(bits: Buffer): boolean {
    const whole = Math.floor(this.sectors / 8);
    if (bits.compare(this.full, 0, whole, 0, whole) !== 0) return false;
    const mask = 0xff00 >> (this.sectors % 8);
    return this.sectors % 8 === 0 || ((bits[whole] ?? 0) & mask & 0xff) === (mask & 0xff);
  }
}
