/** Disks in memory that record what is done to them, and tell what a power cut would leave of them. */
import type { RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { limits } from '../../src/block/limits.ts';
import type { Random } from '../helpers/random.ts';

const SECTOR = 512;

/** `covers`: all events before that number are durable once this flush is in the record. */
type Event =
  | { readonly kind: 'write'; readonly disk: number; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'resize'; readonly disk: number; readonly size: number }
  | { readonly kind: 'flush'; readonly disk: number; readonly covers: number };

export class Recorder {
  readonly events: Event[] = [];
  readonly starts: Buffer[] = [];
  /** Share of the writes and flushes that fail with ENOSPC. */
  failing = 0;

  /** The content of a disk after a cut behind event `end`. */
  afterCut(disk: number, end: number, random: Random): Buffer {
    let durable = 0;
    for (const event of this.events.slice(0, end)) {
      if (event.kind === 'flush' && event.disk === disk) durable = Math.max(durable, event.covers);
    }
    let bytes = Buffer.from(this.starts[disk] ?? Buffer.alloc(0));
    const keep = random.pick([0.1, 0.5, 0.9]);
    for (const [index, event] of this.events.slice(0, end).entries()) {
      if (event.kind === 'flush' || event.disk !== disk) continue;
      if (event.kind === 'resize') {
        if (index >= durable && !random.chance(keep)) continue;
        const more = Buffer.alloc(Math.max(0, event.size - bytes.length));
        bytes = Buffer.concat([bytes.subarray(0, event.size), more]);
        continue;
      }
      const stop = event.offset + event.bytes.length;
      if (stop > bytes.length) bytes = Buffer.concat([bytes, Buffer.alloc(stop - bytes.length)]);
      for (let at = 0; at < event.bytes.length; at += SECTOR) {
        if (index >= durable && !random.chance(keep)) continue;
        event.bytes.copy(bytes, event.offset + at, at, Math.min(event.bytes.length, at + SECTOR));
      }
    }
    return bytes;
  }
}

/** A disk in memory that records. Half of the requests take a while, so that others come in between. */
export class RecordedDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  size: number;
  protected bytes: Buffer;
  protected readonly recorder: Recorder;
  protected readonly number: number;
  private readonly random: Random;

  constructor(recorder: Recorder, bytes: Buffer, random: Random) {
    this.recorder = recorder;
    this.number = recorder.starts.length;
    recorder.starts.push(Buffer.from(bytes));
    this.bytes = Buffer.from(bytes);
    this.size = bytes.length;
    this.random = random;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.random.chance(0.3)) return false;
    this.bytes.copy(bytes, at, offset, offset + length);
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.random.chance(0.5)) return false;
    this.change(offset, bytes.subarray(at, at + length));
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    await this.pause();
    this.bytes.copy(bytes, 0, offset, offset + bytes.length);
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    await this.pause();
    if (this.random.chance(this.recorder.failing)) throw new BlockError('ENOSPC', 'Cannot write: as asked');
    this.change(offset, bytes);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.write(Buffer.alloc(length), offset);
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.pause();
    this.change(offset, Buffer.alloc(Math.min(length, this.size - offset)));
  }

  async flush(): Promise<void> {
    const covers = this.recorder.events.length;
    await this.pause();
    if (this.random.chance(this.recorder.failing)) throw new BlockError('ENOSPC', 'Cannot flush: as asked');
    this.recorder.events.push({ kind: 'flush', disk: this.number, covers });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Room for so many bytes: zeroes, behind what there is. */
  protected reserve(end: number): void {
    if (end > this.bytes.length) this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end)]);
  }

  private change(offset: number, bytes: Buffer): void {
    this.reserve(offset + bytes.length);
    bytes.copy(this.bytes, offset);
    this.size = Math.max(this.size, offset + bytes.length);
    this.recorder.events.push({ kind: 'write', disk: this.number, offset, bytes: Buffer.from(bytes) });
  }

  protected async pause(): Promise<void> {
    const turns = this.random.below(4);
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** One that changes its size when it is told to. */
export class ResizableDisk extends RecordedDisk {
  async resize(size: number): Promise<void> {
    await this.pause();
    this.bytes.fill(0, Math.min(size, this.size));
    this.reserve(size);
    this.size = size;
    this.recorder.events.push({ kind: 'resize', disk: this.number, size });
  }
}

/** A driver whose nodes are these disks, by node-name. */
export function recordedDriver(disks: Readonly<Record<string, RecordedDisk>>) {
  return defineDriver({
    name: 'recorded-image',
    kind: 'protocol',
    summary: 'A disk in memory that records what is done to it',
    options: {},
    children: {},
    open: (context) => Promise.resolve(disks[context.nodeName] ?? Promise.reject(new Error('no such disk'))),
  });
}
