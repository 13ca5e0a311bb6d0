import { setTimeout as delay } from 'node:timers/promises';
import type { OpenDriver, RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { bool, integer, optional, size } from '../../src/block/schema.ts';

interface NullOptions {
  readonly size: number;
  readonly 'read-zeroes': boolean;
  readonly 'latency-ns': number;
}

/** Takes every write and keeps none. Always reads as zeroes: what lay in a reused buffer is nobody's business. */
class NullDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  size: number;
  private readonly readZeroes: boolean;
  private readonly latency: number;

  constructor(options: NullOptions) {
    this.size = options.size;
    this.readZeroes = options['read-zeroes'];
    this.latency = options['latency-ns'] / 1e6;
  }

  tryRead(bytes: Buffer, at: number, length: number): boolean {
    if (this.latency > 0) return false;
    bytes.fill(0, at, at + length);
    return true;
  }

  tryWrite(): boolean {
    return this.latency === 0;
  }

  async read(bytes: Buffer): Promise<void> {
    await this.wait();
    bytes.fill(0);
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    this.size = Math.max(this.size, offset + bytes.length);
    return this.wait();
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    this.size = Math.max(this.size, offset + length);
    return this.wait();
  }

  discard(): Promise<void> {
    return this.wait();
  }

  flush(): Promise<void> {
    return this.wait();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    const length = Math.min(max, this.size - offset);
    return this.readZeroes ? out.setZero(length) : out.setData(undefined, offset, length, true);
  }

  resize(bytes: number): Promise<void> {
    this.size = bytes;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  allocatedSize(): number {
    return 0;
  }

  private async wait(): Promise<void> {
    if (this.latency > 0) await delay(this.latency);
  }
}

const options = {
  size: optional(size('Size of the disk'), 2 ** 30),
  'read-zeroes': optional(bool('Report the disk as zeroes, not as data'), false),
  'latency-ns': optional(integer('Nanoseconds that a request takes, rounded up to milliseconds'), 0),
};

const open = (context: { options: NullOptions }): Promise<OpenDriver> =>
  Promise.resolve(new NullDisk(context.options));

export const nullCoDriver = defineDriver({
  name: 'null-co',
  kind: 'protocol',
  summary: 'Keeps nothing and reads as zeroes, for measuring',
  options,
  children: {},
  open,
});

export const nullAioDriver = defineDriver({
  name: 'null-aio',
  kind: 'protocol',
  summary: 'The same as null-co, under the other name that QEMU has for it',
  options,
  children: {},
  open,
});
