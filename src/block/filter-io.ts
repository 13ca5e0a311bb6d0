import type { Child } from './child.ts';
import type { FilterDriver } from './driver.ts';
import { BlockError } from './errors.ts';
import type { Extent } from './extent.ts';
import { NO_LIMITS } from './limits.ts';
import type { Limits } from './limits.ts';
import type { NodeIo } from './node-io.ts';

/** A filter: what its driver leaves out goes to the filtered child. */
export class FilterIo implements NodeIo {
  private readonly impl: FilterDriver;
  private readonly filtered: Child;
  private own: Partial<Limits> | undefined;
  private merged: Limits = NO_LIMITS;

  constructor(impl: FilterDriver, filtered: Child) {
    this.impl = impl;
    this.filtered = filtered;
  }

  get size(): number {
    return this.impl.size ?? this.filtered.size;
  }

  /** The filter's own: the child's are kept by the child. But what one allocation is, and what a size can be, stays true. */
  get limits(): Limits {
    const { limits: own } = this.impl;
    const { allocationUnit, sizeUnit } = this.filtered.node.limits;
    const { merged } = this;
    if (own === this.own && allocationUnit === merged.allocationUnit && sizeUnit === merged.sizeUnit)
      return merged;
    this.own = own;
    this.merged = { ...NO_LIMITS, allocationUnit, sizeUnit, ...own };
    return this.merged;
  }

  /** A filter that handles reads itself but has no synchronous twin must see every read: no short cut past it. */
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { impl } = this;
    if (impl.tryRead !== undefined) return impl.tryRead(bytes, at, length, offset);
    return impl.read === undefined && this.filtered.tryRead(bytes, at, length, offset);
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { impl } = this;
    if (impl.tryWrite !== undefined) return impl.tryWrite(bytes, at, length, offset);
    return impl.write === undefined && this.filtered.tryWrite(bytes, at, length, offset);
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    return this.impl.read === undefined ? this.filtered.read(bytes, offset) : this.impl.read(bytes, offset);
  }

  write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    if (this.impl.write !== undefined) return this.impl.write(bytes, offset, flags);
    return this.filtered.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    if (this.impl.writeZeroes !== undefined) return this.impl.writeZeroes(offset, length, flags);
    if (this.impl.write !== undefined)
      throw new BlockError('ENOTSUP', 'Cannot write zeroes as such: the filter sees writes');
    return this.filtered.writeZeroes(offset, length, flags);
  }

  discard(offset: number, length: number): Promise<void> {
    if (this.impl.discard !== undefined) return this.impl.discard(offset, length);
    return this.filtered.discard(offset, length);
  }

  flush(): Promise<void> {
    return this.impl.flush === undefined ? this.filtered.flush() : this.impl.flush();
  }

  /** A filter that sees writes sees them plain. */
  writeCompressed(bytes: Buffer, offset: number): Promise<void> {
    if (this.impl.write !== undefined) return this.impl.write(bytes, offset, 0);
    return this.filtered.writeCompressed(bytes, offset);
  }

  copyUp(offset: number, length: number): Promise<void> {
    return this.filtered.copyUp(offset, length);
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (this.impl.tryStatus !== undefined) return this.impl.tryStatus(offset, max, out);
    return out.setData(this.filtered, offset, Math.min(max, this.size - offset), false);
  }

  loadStatus(): Promise<void> {
    return Promise.resolve();
  }
}
