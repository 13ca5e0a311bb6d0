/**
 * A directory of tables of 64-bit entries, as QED and qcow version 1 have it:
 *
 *     L1 entry -> L2 table -> entry of one cluster
 *
 * Order on disk: L2 tables, then a flush, then the L1 entries that name them. So no L1 entry on disk names a table
 * that is not there.
 */
import type { AppendAllocator } from './append-allocator.ts';
import type { CacheCounters } from './cache-counters.ts';
import type { Child } from './child.ts';
import { BlockError } from './errors.ts';
import { damaged } from './refuse.ts';
import type { TableSlice } from './table-cache.ts';
import { TableCache } from './table-cache.ts';
import { readU64BE, readU64LE, showU64, writeU64BE, writeU64LE } from '../util/bytes.ts';
import { alignUp } from '../util/sizes.ts';

const SLICE_MAX = 64 * 1024;
const CACHE_BYTES = 16 * 1024 * 1024;
const L1_SLICES = 32;
const ENTRY = 8;

export interface TwoLevelGeometry {
  readonly file: Child;
  readonly subject: string;
  readonly littleEndian: boolean;
  readonly l1Offset: number;
  /** Entries of one L2 table. */
  readonly l2Entries: number;
  /** What L2 offsets must be a multiple of. */
  readonly l2Alignment: number;
}

export class TwoLevelTables {
  /** The slice, and the byte in it, of the entry that `locate` found. */
  slice: TableSlice | undefined = undefined;
  at = 0;
  /** Where new tables go; undefined while the image is only read. */
  allocator: AppendAllocator | undefined = undefined;
  private readonly geometry: TwoLevelGeometry;
  private readonly l1: TableCache;
  private readonly l2: TableCache;
  private readonly l2Slice: number;
  private writing: Promise<void> = Promise.resolve();
  private failure: unknown = undefined;

  constructor(geometry: TwoLevelGeometry) {
    this.geometry = geometry;
    const { file } = geometry;
    const makeClean = (): Promise<void> => this.writeBack();
    this.l2Slice = Math.min(SLICE_MAX, geometry.l2Entries * ENTRY);
    this.l1 = new TableCache({ file, sliceBytes: SLICE_MAX, maxSlices: L1_SLICES, makeClean });
    const maxSlices = Math.min(4096, CACHE_BYTES / this.l2Slice);
    this.l2 = new TableCache({ file, sliceBytes: this.l2Slice, maxSlices, makeClean });
  }

  /** Finds the entry of a cluster: true (`slice` and `at` are set), 'none' (it has no table), or false to load. */
  locate(cluster: number): boolean | 'none' {
    const { l2Entries } = this.geometry;
    const index = Math.floor(cluster / l2Entries);
    const table = this.tableOffset(index);
    if (table === undefined) return false;
    if (table === 0) return 'none';
    const at = (cluster - index * l2Entries) * ENTRY;
    const inSlice = at % this.l2Slice;
    this.slice = this.l2.get(table + at - inSlice);
    this.at = inSlice;
    return this.slice !== undefined;
  }

  /** Clusters from the located one on whose entries lie in the same slice. */
  get runInSlice(): number {
    return (this.l2Slice - this.at) / ENTRY;
  }

  /** Clusters from `cluster` to the end of its missing table. */
  runInTable(cluster: number): number {
    const { l2Entries } = this.geometry;
    return l2Entries - (cluster % l2Entries);
  }

  /**
   * Makes the table of a cluster that has none. Nothing is changed by that for a reader: it is all zeroes.
   * False: load. Only after `locate` said 'none' in this turn.
   */
  tryMakeTable(cluster: number): boolean {
    const { allocator } = this;
    const { l2Entries } = this.geometry;
    const index = Math.floor(cluster / l2Entries);
    const slice = this.l1.get(this.l1SliceOffset(index));
    if (slice === undefined || allocator === undefined) return false;
    const offset = allocator.tryTakeFresh(alignUp(l2Entries * ENTRY, allocator.unit));
    if (offset < 0) return false;
    const at = (index * ENTRY) % SLICE_MAX;
    if (this.geometry.littleEndian) writeU64LE(slice.bytes, offset, at);
    else writeU64BE(slice.bytes, offset, at);
    this.l1.markDirty(slice, at, ENTRY);
    return true;
  }

  caches(): CacheCounters[] {
    return [this.l1.counters('l1'), this.l2.counters('l2')];
  }

  /** Whether a change may be made now; false: load first, which writes back what is dirty. */
  get hasRoom(): boolean {
    return !this.l1.crowded && !this.l2.crowded;
  }

  /** Entries of an L2 slice were changed. */
  markDirty(slice: TableSlice, at: number, length: number): void {
    this.l2.markDirty(slice, at, length);
  }

  /** Forgets every table that is not dirty: somebody changed the file itself. */
  forget(): void {
    this.l1.forget();
    this.l2.forget();
  }

  async load(): Promise<void> {
    await Promise.all([this.l1.load(), this.l2.load()]);
  }

  /** Writes all that is dirty, in order. One at a time; after a failure every later call fails as well. */
  writeBack(): Promise<void> {
    const run = this.writing.then(() => this.writeInOrder());
    this.writing = run.catch(() => {});
    return run;
  }

  private async writeInOrder(): Promise<void> {
    if (this.failure !== undefined) throw this.failed();
    const directory = this.l1.takeDirty();
    let written = false;
    try {
      await this.l2.writeTaken(this.l2.takeDirty());
      if (directory.length === 0) return;
      await this.geometry.file.flush();
      written = true;
      await this.l1.writeTaken(directory);
    } catch (error) {
      if (!written) this.l1.restore(directory);
      this.failure = error;
      throw error;
    }
  }

  private failed(): BlockError {
    const why = this.failure instanceof Error ? this.failure.message : String(this.failure);
    const text = `Cannot write tables of "${this.geometry.subject}": an earlier write failed: ${why}`;
    return new BlockError('EIO', text, {}, this.failure);
  }

  private l1SliceOffset(index: number): number {
    const at = index * ENTRY;
    return this.geometry.l1Offset + at - (at % SLICE_MAX);
  }

  /** 0 without a table, undefined to load. */
  private tableOffset(index: number): number | undefined {
    const slice = this.l1.get(this.l1SliceOffset(index));
    if (slice === undefined) return undefined;
    const { littleEndian, l2Alignment, subject, file } = this.geometry;
    const at = (index * ENTRY) % SLICE_MAX;
    const offset = littleEndian ? readU64LE(slice.bytes, at) : readU64BE(slice.bytes, at);
    if (offset === 0) return 0;
    if (offset % l2Alignment === 0 && offset < file.size) return offset;
    const shown = showU64(slice.bytes, at, littleEndian);
    throw damaged(
      subject,
      `L1 entry ${index} is ${shown}`,
      `must be a multiple of ${l2Alignment} below ${file.size}`,
    );
  }
}
