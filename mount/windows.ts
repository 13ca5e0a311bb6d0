import type { BlockFile } from './block-file.ts';

interface Window {
  readonly file: BlockFile;
  readonly start: number;
  readonly length: number;
}

/** Makes the kernel forget what it cached of a range of a file. */
export type Invalidate = (file: BlockFile, offset: number, length: number) => Promise<void>;

/**
 * A disk and its parts (partitions) as files of their own, over the same bytes:
 *
 *     disk.raw   [......................................]   may be cached by the kernel
 *     1.raw           [..........]                          never cached (BlockFile.uncached), but it may be mapped
 *     2.raw                        [..........]
 *
 * What is written by one name is read by the other: a part reads through every time, and after a write the kernel drops what
 * it has of that range under the other names before the write is answered.
 *
 * A write from the kernel's cache (of a mapping) is answered first. The kernel waits for it wherever it drops such a page: if
 * the answer waited for the kernel in turn, mappings of the disk and of a part that are both written would stop for ever.
 *
 * Out of reach: a part that is mapped after the disk was opened, when the kernel passes the disk through.
 */
export class Windows {
  private readonly disk: BlockFile;
  private readonly invalidate: Invalidate;
  private parts: Window[] = [];

  constructor(disk: BlockFile, invalidate: Invalidate) {
    this.disk = disk;
    this.invalidate = invalidate;
    disk.windows = this;
  }

  add(file: BlockFile, start: number, length: number): void {
    file.windows = this;
    this.parts.push({ file, start, length });
  }

  remove(file: BlockFile): void {
    file.windows = undefined;
    this.parts = this.parts.filter((part) => part.file !== file);
  }

  /** Times of the other files that show [offset, offset + length) of `file`. Allocates nothing. */
  wrote(file: BlockFile, offset: number, length: number): void {
    const start = offset + this.startOf(file);
    if (file !== this.disk) this.disk.touch();
    for (const part of this.parts) {
      if (part.file !== file && overlaps(part, start, length)) part.file.touch();
    }
  }

  /** Whether the kernel may have something of [offset, offset + length) of `file` under another name. Allocates nothing. */
  mustForget(file: BlockFile, offset: number, length: number): boolean {
    if (file !== this.disk && this.disk.mayBeCached) return true;
    const start = offset + this.startOf(file);
    for (const part of this.parts) {
      if (part.file !== file && part.file.mayBeMapped && overlaps(part, start, length)) return true;
    }
    return false;
  }

  /** After a write. Resolves when the kernel has nothing of it any more. */
  async forget(file: BlockFile, offset: number, length: number): Promise<void> {
    if (length === 0) return;
    const start = offset + this.startOf(file);
    if (file !== this.disk && this.disk.mayBeCached) await this.invalidate(this.disk, start, length);
    for (const part of this.parts) {
      if (part.file === file || !part.file.mayBeMapped || !overlaps(part, start, length)) continue;
      const from = Math.max(start, part.start);
      const end = Math.min(start + length, part.start + part.length);
      await this.invalidate(part.file, from - part.start, end - from);
    }
  }

  /** Whether one of the parts is open, and so may be mapped. */
  get hasOpenPart(): boolean {
    return this.parts.some(({ file }) => file.mayBeMapped);
  }

  private startOf(file: BlockFile): number {
    for (const part of this.parts) if (part.file === file) return part.start;
    return 0;
  }
}

const overlaps = (part: Window, start: number, length: number): boolean =>
  part.start < start + length && start < part.start + part.length;
