import { BlockError } from '../../src/block/errors.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { defineDriver, ZeroFlag } from '../../src/block/driver.ts';
import type { Extent } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import { optional, size } from '../../src/block/schema.ts';

const PAGE = 65536;

/** A disk in memory, in pages of 64 KiB; a page that is missing reads as zeroes. Its content is gone after close. */
class MemDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  size: number;
  private readonly pages = new Map<number, Buffer>();

  constructor(bytes: number) {
    this.size = bytes;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    for (let done = 0; done < length;) {
      const inPage = (offset + done) % PAGE;
      const step = Math.min(PAGE - inPage, length - done);
      const page = this.pages.get(Math.floor((offset + done) / PAGE));
      if (page === undefined) bytes.fill(0, at + done, at + done + step);
      else page.copy(bytes, at + done, inPage, inPage + step);
      done += step;
    }
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    for (let done = 0; done < length;) {
      const inPage = (offset + done) % PAGE;
      const step = Math.min(PAGE - inPage, length - done);
      bytes.copy(this.pageFor(Math.floor((offset + done) / PAGE)), inPage, at + done, at + done + step);
      done += step;
    }
    this.size = Math.max(this.size, offset + length);
    return true;
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    this.tryRead(bytes, 0, bytes.length, offset);
    return Promise.resolve();
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    this.tryWrite(bytes, 0, bytes.length, offset);
    return Promise.resolve();
  }

  writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    this.zero(offset, length, (flags & ZeroFlag.mayUnmap) === 0);
    this.size = Math.max(this.size, offset + length);
    return Promise.resolve();
  }

  discard(offset: number, length: number): Promise<void> {
    this.zero(offset, length, false);
    return Promise.resolve();
  }

  tryStatus(offset: number, max: number, out: Extent): boolean {
    if (offset >= this.size) return out.setEof();
    const limit = Math.min(max, this.size - offset);
    const first = Math.floor(offset / PAGE);
    const isData = this.pages.has(first);
    const length = Math.min(limit, this.runEnd(first, isData, offset + limit) * PAGE - offset);
    return isData ? out.setData(undefined, offset, length, true) : out.setZero(length);
  }

  resize(bytes: number, shrink: boolean): Promise<void> {
    if (bytes < this.size) {
      if (!shrink) {
        const text = `Cannot resize memory disk: ${bytes} bytes is less than its ${this.size}, shrinking was not asked for`;
        return Promise.reject(new BlockError('EINVAL', text));
      }
      this.zero(bytes, this.size - bytes, false);
    }
    this.size = bytes;
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.pages.clear();
    return Promise.resolve();
  }

  allocatedSize(): number {
    return this.pages.size * PAGE;
  }

  /** The page behind the run of pages from `first` on that all exist, or are all missing. */
  private runEnd(first: number, isData: boolean, limit: number): number {
    const lastPage = Math.ceil(limit / PAGE);
    let page = first + 1;
    if (!isData && lastPage - page > this.pages.size) {
      let next = lastPage;
      for (const index of this.pages.keys()) if (index > first && index < next) next = index;
      return next;
    }
    while (page < lastPage && this.pages.has(page) === isData) page += 1;
    return page;
  }

  private pageFor(index: number): Buffer {
    const known = this.pages.get(index);
    if (known !== undefined) return known;
    const page = Buffer.alloc(PAGE);
    this.pages.set(index, page);
    return page;
  }

  private zero(offset: number, length: number, keepPages: boolean): void {
    const end = offset + length;
    const lastPage = Math.floor((end - 1) / PAGE);
    if (lastPage - Math.floor(offset / PAGE) > this.pages.size) {
      for (const index of this.pages.keys()) this.zeroPage(index, offset, end, keepPages);
      return;
    }
    for (let index = Math.floor(offset / PAGE); index <= lastPage; index += 1)
      this.zeroPage(index, offset, end, keepPages);
  }

  private zeroPage(index: number, offset: number, end: number, keep: boolean): void {
    const page = this.pages.get(index);
    const from = Math.max(0, offset - index * PAGE);
    const to = Math.min(PAGE, end - index * PAGE);
    if (page === undefined || from >= to) return;
    if (from === 0 && to === PAGE && !keep) this.pages.delete(index);
    else page.fill(0, from, to);
  }
}

export const memDriver = defineDriver({
  name: 'mem',
  kind: 'protocol',
  summary: 'A sparse disk in memory, empty at start',
  options: { size: optional(size('Size of the disk; it grows when written to past its end'), 0) },
  children: {},
  open: (context) => Promise.resolve(new MemDisk(context.options.size)),
});
