import type { Driver } from './driver.ts';
import { BlockError } from './errors.ts';
import type { NodeIo } from './node-io.ts';
import { PROBED_HEAD, PROBED_TAIL } from './probe.ts';
import { readAligned } from './read-modify-write.ts';
import { Serial } from '../util/serial.ts';

/** What is about to happen to a file. */
export interface FileChange {
  readonly action: string;
  /** Bytes of the file that change; none for a new size. */
  readonly offset: number;
  readonly length: number;
  /** What is written there; zeroes when left out. */
  readonly bytes?: Buffer;
  /** The file's new size; left out where it only grows by being written to. */
  readonly size?: number;
}

/**
 * On a file that holds a raw disk only because nothing else was recognised: a guest must not turn it into an image of
 * another format, or the next probing would read whatever files that image names. Everything that probing looks at is
 * guarded, the end of the file too: a fixed VHD and a DMG are known by it. (QEMU looks at the first 512 bytes alone.)
 */
export class FormatGuard {
  private readonly drivers: readonly Driver[];
  private readonly filename: string;
  /** Two changes that are harmless one by one could come to a magic together. */
  private readonly serial = new Serial();

  constructor(drivers: readonly Driver[], filename: string) {
    this.drivers = drivers.filter((driver) => driver.probe !== undefined);
    this.filename = filename;
  }

  /** Whether a change has to be looked at. Allocates nothing. */
  concerns(offset: number, length: number, size: number): boolean {
    return offset < PROBED_HEAD || offset + length > size - PROBED_TAIL;
  }

  /** Makes the change, or refuses it. */
  async run(io: NodeIo, change: FileChange, make: () => Promise<void>): Promise<void> {
    const { offset, length, size } = change;
    if (size === undefined && !this.concerns(offset, length, io.size)) return make();
    return this.serial.run(async () => {
      await this.check(io, change);
      await make();
    });
  }

  private async check(io: NodeIo, change: FileChange): Promise<void> {
    const size = change.size ?? Math.max(io.size, change.offset + change.length);
    const head = await contentAfter(io, change, 0, Math.min(PROBED_HEAD, size));
    const tail = await contentAfter(io, change, Math.max(0, size - PROBED_TAIL), size);
    const driver = this.drivers.find((known) => (known.probe?.(head, '', tail, size) ?? 0) > 0);
    if (driver === undefined) return;
    const text = `it would turn this raw disk into a ${driver.name} image; say --format raw if that is meant`;
    throw new BlockError('EPERM', `Cannot ${change.action} "${this.filename}": ${text}`);
  }
}

/** What the file will have from `start` to `end`. */
async function contentAfter(
  io: NodeIo,
  { offset, length, bytes }: FileChange,
  start: number,
  end: number,
): Promise<Buffer> {
  const content = Buffer.alloc(end - start);
  const old = Math.min(end, io.size) - start;
  if (old > 0) await readAligned(io, content.subarray(0, old), start);
  const from = Math.max(start, offset);
  const to = Math.min(end, offset + length);
  if (from >= to) return content;
  if (bytes === undefined) content.fill(0, from - start, to - start);
  else bytes.copy(content, from - start, from - offset, to - offset);
  return content;
}
