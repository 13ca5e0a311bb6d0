import type { RequestDriver } from './driver.ts';
import { BlockError } from './errors.ts';
import type { Extent } from './extent.ts';
import type { Limits } from './limits.ts';
import type { NodeIo } from './node-io.ts';

/** Requests of a protocol or filter that moves bytes itself: handed on as they are. */
export class RequestIo implements NodeIo {
  private readonly impl: RequestDriver;

  constructor(impl: RequestDriver) {
    this.impl = impl;
  }

  get size(): number {
    return this.impl.size;
  }

  get limits(): Limits {
    return this.impl.limits;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.impl.tryRead?.(bytes, at, length, offset) ?? false;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.impl.tryWrite?.(bytes, at, length, offset) ?? false;
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    return this.impl.read(bytes, offset);
  }

  async write(bytes: Buffer, offset: number, flags: number): Promise<void> {
    if (this.impl.write === undefined) throw new BlockError('EROFS', 'Cannot write: the driver only reads');
    await this.impl.write(bytes, offset, flags);
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    if (this.impl.writeZeroes === undefined) throw new BlockError('ENOTSUP', 'Cannot write zeroes as such');
    await this.impl.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.impl.discard?.(offset, length);
  }

  flush(): Promise<void> {
    return this.impl.flush();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (this.impl.tryStatus !== undefined) return this.impl.tryStatus(offset, max, out);
    return out.setData(undefined, offset, max, this.impl.readOnly !== true);
  }

  loadStatus(): Promise<void> {
    return this.impl.loadStatus?.() ?? Promise.resolve();
  }
}
