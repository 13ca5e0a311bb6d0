/**
 * Tables of an image file (block maps, bitmaps), held in memory by pages and changed there only:
 *
 *     file    base [page 0][page 1][page 2] ... end        read a page at a time, `load`
 *     memory       [page 0]        [page 2]                 at most `maxBytes`; dirty and held pages stay
 *     changes           [unit]                              written back by the driver, in the order its format needs
 *
 * Positions are bytes from `base`. `page` decides nothing by itself: a driver's try asks for a page, returns false
 * without it, and the core has `load` called in the same turn.
 */
import { BlockError } from './errors.ts';
import { alignDown } from '../util/sizes.ts';

const MAX_BYTES = 32 * 1024 * 1024;

export interface TableLayout {
  read(bytes: Buffer, offset: number): Promise<void>;
  /** Byte of the file at which position 0 lies. */
  readonly base: number;
  /** First position that is no part of the table: never written. */
  readonly end: number;
  readonly pageSize: number;
  /** Bytes that are written back as one. */
  readonly unit: number;
  readonly maxBytes?: number;
}

/** Changed bytes, copied when they were taken, and where in the file they go. */
export interface TableChange {
  readonly offset: number;
  readonly bytes: Buffer;
}

export class TablePages {
  readonly pageSize: number;
  private readonly layout: TableLayout;
  private readonly maxPages: number;
  private readonly pages = new Map<number, Buffer>();
  private readonly loading = new Map<number, Promise<void>>();
  /** Numbers of units. */
  private readonly dirty = new Set<number>();
  /** Users by page number: held by allocations under way, by changes being written, by their dirty units. */
  private readonly holds = new Map<number, number>();
  private wanted: number | undefined = undefined;
  private lastNumber = -1;
  private lastPage: Buffer | undefined = undefined;

  constructor(layout: TableLayout) {
    this.layout = layout;
    this.pageSize = layout.pageSize;
    this.maxPages = Math.max(2, Math.floor((layout.maxBytes ?? MAX_BYTES) / layout.pageSize));
  }

  /** The page that holds `position`, at (position % pageSize); undefined when it has to be loaded first. */
  page(position: number): Buffer | undefined {
    const number = Math.floor(position / this.pageSize);
    if (number === this.lastNumber) return this.lastPage;
    const page = this.pages.get(number);
    if (page === undefined) {
      this.wanted = number;
      return undefined;
    }
    this.lastNumber = number;
    this.lastPage = page;
    return page;
  }

  /** Whether the last `page` that failed waits to be loaded. */
  get wants(): boolean {
    return this.wanted !== undefined;
  }

  /** Every page is dirty or in use: write back before the next load. */
  get isFull(): boolean {
    return this.pages.size >= this.maxPages && this.victim() === undefined;
  }

  get isDirty(): boolean {
    return this.dirty.size > 0;
  }

  /** Loads the page that the last try lacked. */
  async load(): Promise<void> {
    const number = this.wanted;
    this.wanted = undefined;
    if (number === undefined || this.pages.has(number)) return;
    const under = this.loading.get(number) ?? this.read(number);
    this.loading.set(number, under);
    await under.finally(() => this.loading.delete(number));
  }

  /** Marks bytes that were changed in their page. */
  changed(position: number, length: number): void {
    const { unit } = this.layout;
    for (let at = alignDown(position, unit); at < position + length; at += unit) {
      const number = at / unit;
      if (this.dirty.has(number)) continue;
      this.dirty.add(number);
      this.hold(at);
    }
  }

  /** Keeps the page of `position` in memory until `release`: what a commit that may not wait will need. */
  hold(position: number): void {
    const number = Math.floor(position / this.pageSize);
    this.holds.set(number, (this.holds.get(number) ?? 0) + 1);
  }

  release(position: number): void {
    const number = Math.floor(position / this.pageSize);
    const count = (this.holds.get(number) ?? 0) - 1;
    if (count > 0) this.holds.set(number, count);
    else this.holds.delete(number);
  }

  /** A page of zeroes for a place in the file that was never used: nothing to load. */
  blank(position: number): void {
    const number = Math.floor(position / this.pageSize);
    this.pages.set(number, Buffer.alloc(this.pageSize));
    if (this.lastNumber === number) this.lastNumber = -1;
  }

  /** Hands out all changes, oldest position first. Exactly one of `written` and `restore` must follow. */
  takeChanges(): TableChange[] {
    const { base, end, unit } = this.layout;
    const changes: TableChange[] = [];
    for (const number of [...this.dirty].sort((one, other) => one - other)) {
      const at = number * unit;
      const page = this.pages.get(Math.floor(at / this.pageSize));
      if (page === undefined) throw new BlockError('EIO', `a changed table page at ${base + at} is gone`);
      const from = at % this.pageSize;
      const length = Math.min(unit, end - at);
      changes.push({ offset: base + at, bytes: Buffer.from(page.subarray(from, from + length)) });
    }
    this.dirty.clear();
    return changes;
  }

  written(changes: readonly TableChange[]): void {
    for (const { offset } of changes) this.release(offset - this.layout.base);
  }

  /** The changes did not reach the file: they are due again. */
  restore(changes: readonly TableChange[]): void {
    for (const { offset } of changes) {
      const position = offset - this.layout.base;
      const number = position / this.layout.unit;
      if (this.dirty.has(number)) this.release(position);
      else this.dirty.add(number);
    }
  }

  private async read(number: number): Promise<void> {
    const page = Buffer.alloc(this.pageSize);
    const at = number * this.pageSize;
    const length = Math.min(this.pageSize, this.layout.end - at);
    await this.layout.read(page.subarray(0, length), this.layout.base + at);
    if (this.pages.has(number)) return;
    while (this.pages.size >= this.maxPages) {
      const victim = this.victim();
      if (victim === undefined) break;
      this.pages.delete(victim);
      if (victim === this.lastNumber) this.lastNumber = -1;
    }
    this.pages.set(number, page);
  }

  private victim(): number | undefined {
    for (const number of this.pages.keys()) if (!this.holds.has(number)) return number;
    return undefined;
  }
}

/** Neighbouring changes as one write each. */
export function mergeChanges(changes: readonly TableChange[]): TableChange[] {
  const merged: { offset: number; parts: Buffer[]; end: number }[] = [];
  for (const { offset, bytes } of changes) {
    const last = merged.at(-1);
    if (last?.end === offset) {
      last.parts.push(bytes);
      last.end += bytes.length;
    } else {
      merged.push({ offset, parts: [bytes], end: offset + bytes.length });
    }
  }
  return merged.map(({ offset, parts }) => ({
    offset,
    bytes: parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts),
  }));
}
