import type { Child } from '../../../src/block/child.ts';
import type { LogChange } from './log-entry.ts';

/** The file as it would be after the log was replayed, for an image that may only be read. */
export class ReplayedFile {
  readonly size: number;
  private readonly file: Child;
  private readonly changes: readonly LogChange[];
  /** Ranges that any change touches, sorted, apart from one another. */
  private readonly touched: { readonly start: number; readonly end: number }[];

  constructor(file: Child, changes: readonly LogChange[], lastFileOffset: number) {
    this.file = file;
    this.changes = changes;
    this.size = Math.max(file.size, lastFileOffset);
    this.touched = mergeRanges(changes);
  }

  get isEmpty(): boolean {
    return this.changes.length === 0;
  }

  /** Fills `bytes`; past the end: zeroes. */
  async read(bytes: Buffer, offset: number): Promise<void> {
    await this.file.read(bytes, offset);
    if (this.nextTouched(offset) >= offset + bytes.length) return;
    for (const change of this.changes) {
      const from = Math.max(offset, change.offset);
      const to = Math.min(offset + bytes.length, change.offset + change.length);
      if (from >= to) continue;
      if (change.bytes === undefined) bytes.fill(0, from - offset, to - offset);
      else change.bytes.copy(bytes, from - offset, from - change.offset, to - change.offset);
    }
  }

  /** The first byte from `offset` on that differs from the file below; Infinity when there is none. */
  nextTouched(offset: number): number {
    const range = this.rangeBehind(offset);
    return range === undefined ? Number.POSITIVE_INFINITY : Math.max(offset, range.start);
  }

  /** The end of the touched range that holds `offset`. */
  touchedEnd(offset: number): number {
    return this.rangeBehind(offset)?.end ?? offset;
  }

  private rangeBehind(offset: number): { readonly start: number; readonly end: number } | undefined {
    let low = 0;
    let high = this.touched.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.touched[middle]?.end ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return this.touched[low];
  }
}

function mergeRanges(changes: readonly LogChange[]): { start: number; end: number }[] {
  const merged: { start: number; end: number }[] = [];
  for (const { offset, length } of [...changes].sort((one, other) => one.offset - other.offset)) {
    const last = merged.at(-1);
    if (last !== undefined && offset <= last.end) last.end = Math.max(last.end, offset + length);
    else merged.push({ start: offset, end: offset + length });
  }
  return merged;
}
