import type { RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { integer, optional, size } from '../../src/block/schema.ts';
import { Random } from './random.ts';

/**
 * A disk in memory for tests that behaves like slow, unreliable hardware: sometimes ready at once, mostly some turns of
 * the event loop later and out of order; it may fail now and then, and refuses requests that its limits forbid.
 */
export class SlowDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits;
  size: number;
  /** Zeroes behind `size`. */
  private bytes: Buffer;
  private readonly random: Random;
  private readonly failureRate: number;
  /** How often it would have to wait; changes every now and then. */
  private mood = 0.5;

  constructor(
    options: { size: number; seed: number; alignment: number; 'fail-per-mille': number },
    content = Buffer.alloc(options.size),
  ) {
    this.bytes = content;
    this.size = content.length;
    this.random = new Random(options.seed);
    this.failureRate = options['fail-per-mille'] / 1000;
    this.limits = limits({
      requestAlignment: options.alignment,
      discardAlignment: options.alignment,
      maxTransfer: 256 * 1024,
      maxDiscard: 256 * 1024,
    });
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.wouldWait()) {
      bytes.fill(0xee, at, at + length);
      return false;
    }
    this.copyOut(bytes.subarray(at, at + length), offset);
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.wouldWait()) return false;
    this.grow(offset + length);
    bytes.copy(this.bytes, offset, at, at + length);
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    this.check(offset, bytes.length);
    await this.delay();
    this.copyOut(bytes, offset);
    await this.delay();
  }

  /** The bytes arrive one half after the other, at times of the disk's choosing; a failed write may have arrived in part. */
  async write(bytes: Buffer, offset: number): Promise<void> {
    this.check(offset, bytes.length);
    await this.delay();
    this.grow(offset + bytes.length);
    const half = bytes.length >> 1;
    bytes.copy(this.bytes, offset, 0, half);
    await this.delay();
    this.maybeFail();
    bytes.copy(this.bytes, offset + half, half);
    await this.delay();
  }

  /** Takes any range, as fallocate does, whatever the alignment of reads and writes. */
  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.delay();
    if (this.random.chance(0.3))
      throw new BlockError('ENOTSUP', 'Cannot write zeroes to "slow": not in the mood');
    this.grow(offset + length);
    this.bytes.fill(0, offset, offset + length);
    await this.delay();
  }

  async discard(offset: number, length: number): Promise<void> {
    this.check(offset, length);
    await this.delay();
    if (this.random.chance(0.7)) this.bytes.fill(0, offset, offset + length);
    await this.delay();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    return offset >= this.size
      ? out.setEof()
      : out.setData(undefined, offset, Math.min(max, this.size - offset), true);
  }

  /** Cuts off whatever lies further out by then, as ftruncate(2) does. */
  async resize(size: number, shrink: boolean): Promise<void> {
    if (size < this.size && !shrink) throw new BlockError('EINVAL', 'Cannot resize "slow": not to shrink');
    await this.delay();
    if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
    this.grow(size);
  }

  async flush(): Promise<void> {
    await this.delay();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** What it holds now. */
  get content(): Buffer {
    return this.bytes.subarray(0, this.size);
  }

  private copyOut(bytes: Buffer, offset: number): void {
    bytes.fill(0);
    if (offset < this.size) this.bytes.copy(bytes, 0, offset, this.size);
  }

  private grow(end: number): void {
    this.size = Math.max(this.size, end);
    if (this.size <= this.bytes.length) return;
    const bytes = Buffer.alloc(this.size * 2);
    this.bytes.copy(bytes);
    this.bytes = bytes;
  }

  private check(offset: number, length: number): void {
    const { requestAlignment: unit, maxTransfer } = this.limits;
    if (offset % unit === 0 && length % unit === 0 && length <= maxTransfer && length > 0) return;
    throw new BlockError(
      'EINVAL',
      `Cannot serve ${length} bytes at ${offset}: limits are ${unit} and ${maxTransfer}`,
    );
  }

  private wouldWait(): boolean {
    if (this.random.chance(0.1)) this.mood = this.random.pick([0, 0.5, 1]);
    return this.random.chance(this.mood);
  }

  private maybeFail(): void {
    if (this.random.chance(this.failureRate))
      throw new BlockError('EIO', 'Cannot write "slow": failed as asked');
  }

  private async delay(): Promise<void> {
    for (let turns = this.random.below(4); turns > 0; turns -= 1) await new Promise(setImmediate);
  }
}

/** A driver whose node is this disk. */
export function slowDriverOver(disk: SlowDisk) {
  return defineDriver({
    name: 'slow-image',
    kind: 'protocol',
    summary: 'A disk in memory that answers late and out of order',
    options: {},
    children: {},
    open: () => Promise.resolve(disk),
  });
}

export const slowDriver = defineDriver({
  name: 'slow',
  kind: 'protocol',
  summary: 'A disk in memory that answers late and out of order',
  options: {
    size: optional(size('Size of the disk'), 0),
    seed: optional(integer('Seed of its moods'), 1),
    alignment: optional(integer('Request alignment'), 1),
    'fail-per-mille': optional(integer('Writes that fail, in a thousand'), 0),
  },
  children: {},
  open: (context) => Promise.resolve(new SlowDisk(context.options)),
});
