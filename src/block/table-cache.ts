/**
 * The tables of an image in memory, in slices of one length, each known by its offset in the file.
 *
 *     get(offset)          slice, or undefined -> load() in the same turn, then get again
 *     markDirty            the slice differs from the file from now on
 *     takeDirty            copies of what is dirty now, for writeTaken; what gets dirty later stays dirty
 *
 * Bounded: above `maxSlices` the least recently used clean slice goes; when too much is dirty, `makeClean` (the driver's
 * ordered write-back) runs first. A slice that is being written is not dropped: reading it again could meet the old
 * bytes. A pinned slice is not dropped either: a commit is going to change it.
 */
import type { CacheCounters } from './cache-counters.ts';
import type { Child } from './child.ts';

export class TableSlice {
  readonly offset: number;
  readonly bytes: Buffer;
  /** Commits to come that will change it. */
  pins = 0;
  used = 0;
  dirtyFrom = 0;
  dirtyTo = 0;
  /** Writes under way. */
  writes = 0;

  constructor(offset: number, bytes: Buffer) {
    this.offset = offset;
    this.bytes = bytes;
  }

  get dirty(): boolean {
    return this.dirtyTo > this.dirtyFrom;
  }
}

export interface TableCacheSetup {
  readonly file: Child;
  readonly sliceBytes: number;
  readonly maxSlices: number;
  /** Writes back in the order that the format demands; called when there is no room for another slice. */
  readonly makeClean: () => Promise<void>;
}

/** Dirty bytes of one slice on their way to the file. */
export interface TakenBytes {
  readonly slice: TableSlice;
  readonly from: number;
  readonly copy: Buffer;
}

export class TableCache {
  private readonly setup: TableCacheSetup;
  private readonly slices = new Map<number, TableSlice>();
  private readonly loading = new Map<number, Promise<void>>();
  private readonly wanted = new Set<number>();
  private last: TableSlice | undefined = undefined;
  private tick = 0;
  private dirtyCount = 0;
  private found = 0;
  private missed = 0;

  constructor(setup: TableCacheSetup) {
    this.setup = setup;
  }

  /** The slice that starts at this offset of the file; a caller always asks for one part by the same offset. */
  get(offset: number): TableSlice | undefined {
    if (this.last?.offset === offset) {
      this.found += 1;
      return this.last;
    }
    const slice = this.slices.get(offset);
    if (slice === undefined) {
      this.wanted.add(offset);
      return undefined;
    }
    this.found += 1;
    this.tick += 1;
    slice.used = this.tick;
    this.last = slice;
    return slice;
  }

  /** What was missing is found when it is asked for again: that is no hit. */
  counters(name = 'metadata'): CacheCounters {
    const { found, missed, slices, setup } = this;
    return {
      name,
      hits: Math.max(0, found - missed),
      misses: missed,
      bytes: slices.size * setup.sliceBytes,
      capacity: setup.maxSlices * setup.sliceBytes,
    };
  }

  markDirty(slice: TableSlice, at: number, length: number): void {
    if (!slice.dirty) {
      this.dirtyCount += 1;
      slice.dirtyFrom = at;
      slice.dirtyTo = at + length;
      return;
    }
    slice.dirtyFrom = Math.min(slice.dirtyFrom, at);
    slice.dirtyTo = Math.max(slice.dirtyTo, at + length);
  }

  get dirty(): boolean {
    return this.dirtyCount > 0;
  }

  /** So much is dirty that a change should wait for `load`, which then writes back. */
  get crowded(): boolean {
    return this.dirtyCount * 2 >= this.setup.maxSlices;
  }

  /** Brings in what `get` lacked since the last call, and makes room. */
  async load(): Promise<void> {
    const offsets = [...this.wanted];
    this.wanted.clear();
    if (this.crowded) await this.setup.makeClean();
    await Promise.all(offsets.map((offset) => this.loadOnce(offset)));
  }

  /** Drops every slice that nothing holds. */
  forget(): void {
    this.last = undefined;
    for (const slice of this.slices.values()) if (!isHeld(slice)) this.slices.delete(slice.offset);
  }

  takeDirty(): TakenBytes[] {
    const dirty = [...this.slices.values()].filter((slice) => slice.dirty);
    return dirty.sort((one, other) => one.offset - other.offset).map((slice) => this.take(slice));
  }

  /** Writes what takeDirty gave; what could not be written is dirty again. */
  async writeTaken(taken: readonly TakenBytes[]): Promise<void> {
    const outcomes = await Promise.allSettled(taken.map((piece) => this.writePiece(piece)));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Gives back what takeDirty gave and nobody wrote. */
  restore(taken: readonly TakenBytes[]): void {
    for (const { slice, from, copy } of taken) {
      slice.writes -= 1;
      this.markDirty(slice, from, copy.length);
    }
  }

  private take(slice: TableSlice): TakenBytes {
    const { dirtyFrom: from, dirtyTo: to } = slice;
    slice.dirtyFrom = 0;
    slice.dirtyTo = 0;
    slice.writes += 1;
    this.dirtyCount -= 1;
    return { slice, from, copy: Buffer.from(slice.bytes.subarray(from, to)) };
  }

  private async writePiece(piece: TakenBytes): Promise<void> {
    try {
      await this.setup.file.write(piece.copy, piece.slice.offset + piece.from);
    } catch (error) {
      this.restore([piece]);
      throw error;
    }
    piece.slice.writes -= 1;
  }

  private loadOnce(offset: number): Promise<void> {
    const known = this.loading.get(offset);
    if (known !== undefined) return known;
    const reading = this.readSlice(offset).finally(() => this.loading.delete(offset));
    this.loading.set(offset, reading);
    return reading;
  }

  private async readSlice(offset: number): Promise<void> {
    if (this.slices.has(offset)) return;
    this.missed += 1;
    const bytes = Buffer.allocUnsafe(this.setup.sliceBytes);
    await this.setup.file.read(bytes, offset);
    this.trim();
    const slice = new TableSlice(offset, bytes);
    this.tick += 1;
    slice.used = this.tick;
    this.slices.set(offset, slice);
  }

  private trim(): void {
    while (this.slices.size >= this.setup.maxSlices) {
      let oldest: TableSlice | undefined;
      for (const slice of this.slices.values()) {
        if (isHeld(slice)) continue;
        if (oldest === undefined || slice.used < oldest.used) oldest = slice;
      }
      if (oldest === undefined) return;
      this.slices.delete(oldest.offset);
      if (this.last === oldest) this.last = undefined;
    }
  }
}

const isHeld = (slice: TableSlice): boolean => slice.dirty || slice.writes > 0 || slice.pins > 0;
