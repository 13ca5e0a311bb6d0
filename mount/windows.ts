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
 *     1.raw           [..........]                          never cached (BlockFile.uncached)
 *     2.raw                        [..........]
 *
 * What is written by one name is read by the other: a part reads through every time, and after a write to a part the kernel
 * drops that range of the disk before the write is answered.
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
      if (part.file === file || part.start >= start + length || start >= part.start + part.length) continue;
      part.file.touch();
    }
  }

  /** Whether a write to `file` has to wait until the kernel has forgotten something. */
  mustForget(file: BlockFile): boolean {
    return file !== this.disk && this.disk.mayBeCached;
  }

  /** After a write, before its answer. */
  async forget(file: BlockFile, offset: number, length: number): Promise<void> {
    if (this.mustForget(file)) await this.invalidate(this.disk, offset + this.startOf(file), length);
  }

  private startOf(file: BlockFile): number {
    for (const part of this.parts) if (part.file === file) return part.start;
    return 0;
  }
}
