import { defineDriver, ZeroFlag } from '../../src/block/driver.ts';
import { BlockError, errnoOf } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import { text } from '../../src/block/schema.ts';
import { fileFacts, openFile, resizeFile } from '../../src/sys/file.ts';
import { punchHole, reserve, seekData, seekHole, zeroRange } from '../../src/sys/sparse.ts';
import type { HostOptions } from './host/disk.ts';
import { HostDisk, openDisk } from './host/disk.ts';
import type { HostHandle } from './host/opening.ts';
import { lockingOption, openHandle, shareRwOption } from './host/opening.ts';

/** A regular file of the host: the disk's bytes at the same offsets. */
class FileDisk extends HostDisk {
  /** The data that the last status answer found. Holes are not remembered: somebody else may fill them. */
  private dataStart = 0;
  private dataEnd = 0;

  constructor(handle: HostHandle, options: HostOptions) {
    super(handle, options);
    this.size = fileFacts(handle.io.fd).size;
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    const end = offset + length;
    try {
      this.forgetData();
      const punched = (flags & ZeroFlag.mayUnmap) !== 0 && (await this.punch(offset, length));
      if (!punched) await this.using((io) => zeroRange(io, offset, length));
      else if (end > this.size) await this.growTo(end);
    } finally {
      this.forgetData();
    }
    this.size = Math.max(this.size, end);
    if ((flags & ZeroFlag.fua) !== 0) await this.flush();
  }

  async discard(offset: number, length: number): Promise<void> {
    const inside = Math.min(length, this.size - offset);
    if (inside <= 0) return;
    try {
      this.forgetData();
      await this.using((io) => punchHole(io, offset, inside));
    } finally {
      this.forgetData();
    }
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    const limit = Math.min(max, this.size - offset);
    if (offset < this.dataStart || offset >= this.dataEnd) {
      const data = seekData(this.io.fd, offset);
      if (data === 'end') return out.setZero(limit);
      if (data !== 'unknown' && data > offset) return out.setZero(Math.min(limit, data - offset));
      const hole = data === 'unknown' ? data : seekHole(this.io.fd, offset);
      this.dataStart = offset;
      this.dataEnd = typeof hole === 'number' && hole > offset ? hole : this.size;
    }
    return out.setData(undefined, offset, Math.min(limit, this.dataEnd - offset), this.writable);
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    if (size < this.size && !shrink) {
      const why = `${size} bytes is less than its ${this.size}, shrinking was not asked for`;
      throw new BlockError('EINVAL', `Cannot resize "${this.filename}": ${why}`, { path: this.filename });
    }
    this.forgetData();
    await this.using((io) => resizeFile(io, size));
    this.forgetData();
    this.size = size;
  }

  protected override use(handle: HostHandle): void {
    super.use(handle);
    this.forgetData();
  }

  private forgetData(): void {
    this.dataStart = 0;
    this.dataEnd = 0;
  }

  private async punch(offset: number, length: number): Promise<boolean> {
    try {
      await this.using((io) => punchHole(io, offset, length));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOTSUP') return false;
      throw error;
    }
  }

  /**
   * By writing the last zero, not by truncating: a write further out may be under way, and truncating would cut it off.
   * With O_DIRECT a whole sector would have to be written, and bytes before the range may be data: the system grows it.
   */
  private async growTo(end: number): Promise<void> {
    if (this.limits.requestAlignment === 1) await this.write(Buffer.alloc(1), end - 1, 0);
    else await this.using((io) => reserve(io, end - 1, 1, false));
  }
}

export const fileDriver = defineDriver({
  name: 'file',
  kind: 'protocol',
  summary: 'A regular file of the host',
  options: { filename: text('Path of the file'), locking: lockingOption, 'share-rw': shareRwOption },
  children: {},
  open: ({ options, common }) => {
    const { filename } = options;
    const opening = openHandle(filename, common, (mode) => openFile(filename, 'regular', mode));
    return openDisk(opening, (handle) => new FileDisk(handle, options));
  },
});
