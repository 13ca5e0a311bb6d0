import type { MappingDriver } from './driver.ts';
import { ZeroFlag } from './driver.ts';
import { BlockError } from './errors.ts';
import { Extent } from './extent.ts';
import type { MappedIo } from './mapped.ts';
import { requireInside } from './mapped-write.ts';
import type { MappedWriter } from './mapped-write.ts';
import type { RangeLocks } from './ranges.ts';
import { ZEROES } from './zero.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

/** Write-zeroes and discard through a mapping. Both hold whole allocation units exclusively. */
export class MappedZeroer {
  private readonly impl: MappingDriver;
  private readonly io: MappedIo;
  private readonly writer: MappedWriter;
  private readonly locks: RangeLocks;

  constructor(impl: MappingDriver, io: MappedIo, writer: MappedWriter, locks: RangeLocks) {
    this.impl = impl;
    this.io = io;
    this.writer = writer;
    this.locks = locks;
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.exclusively(offset, length, async () => {
      requireInside(this.impl, offset + length);
      await this.writeZeroesLocked(offset, length, flags);
    });
  }

  /** For a caller that holds the allocation units exclusively. */
  async writeZeroesLocked(offset: number, length: number, flags: number): Promise<void> {
    for (let at = offset; at < offset + length;) at += await this.zeroPiece(at, offset + length - at, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.exclusively(offset, length, async () => {
      const end = Math.min(offset + length, this.impl.size);
      for (let at = offset; at < end;) at += await this.discardPiece(at, end - at);
    });
  }

  private async zeroPiece(offset: number, length: number, flags: number): Promise<number> {
    const { impl } = this;
    if (impl.tryZero !== undefined) {
      let done = impl.tryZero(offset, length, (flags & ZeroFlag.mayUnmap) !== 0);
      while (done === false) {
        await impl.load();
        done = impl.tryZero(offset, length, (flags & ZeroFlag.mayUnmap) !== 0);
      }
      if (done > 0) return done;
    }
    return this.zeroByWriting(offset, length, flags);
  }

  /** One extent of what metadata alone can't zero: in place where it may be, else through a new place. */
  private async zeroByWriting(offset: number, length: number, flags: number): Promise<number> {
    const unit = this.impl.limits.allocationUnit;
    const piece =
      this.impl.tryZero === undefined ? length : Math.min(length, alignDown(offset, unit) + unit - offset);
    const extent = new Extent();
    await this.io.map(offset, piece, extent);
    if (extent.kind === 'zero' || this.io.readsAsZero(offset, extent.length)) return extent.length;
    if (
      extent.kind === 'data' &&
      extent.writable &&
      extent.child !== undefined &&
      this.impl.codec === undefined
    ) {
      const { length: done } = extent;
      await extent.child.writeZeroes(extent.offset, done, flags & ~ZeroFlag.fua);
      return done;
    }
    if ((flags & ZeroFlag.noFallback) !== 0)
      throw new BlockError('ENOTSUP', 'Cannot write zeroes as such here');
    return this.writer.writeLocked(ZEROES.subarray(0, Math.min(extent.length, ZEROES.length)), offset);
  }

  private async discardPiece(offset: number, length: number): Promise<number> {
    const { impl } = this;
    if (impl.tryDiscard !== undefined) {
      let done = impl.tryDiscard(offset, length);
      while (done === false) {
        await impl.load();
        done = impl.tryDiscard(offset, length);
      }
      return done > 0 ? done : length;
    }
    const extent = new Extent();
    await this.io.map(offset, length, extent);
    const { length: done } = extent;
    if (extent.kind === 'data' && extent.writable) await extent.child?.discard(extent.offset, done);
    return Math.max(1, done);
  }

  private async exclusively(offset: number, length: number, run: () => Promise<void>): Promise<void> {
    const unit = this.impl.limits.allocationUnit;
    const start = alignDown(offset, unit);
    const lock = await this.locks.acquire(start, alignUp(offset + length, unit) - start, true);
    try {
      await run();
    } finally {
      lock.release();
    }
  }
}
