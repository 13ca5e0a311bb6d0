import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { damaged } from '../../../src/block/refuse.ts';
import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { TableSlice } from '../../../src/block/table-cache.ts';
import { TableCache } from '../../../src/block/table-cache.ts';
import { HEADER_LENGTH } from './header.ts';
import type { Geometry } from './header.ts';

const SLICE = 64 * 1024;
const SLICES = 256;
const ENTRY = 4;

/** The block allocation table, in memory by slices. An entry is 0 or the place of a cluster in units of the format. */
export class Bat {
  /** The slice, and the byte in it, of the entry that `locate` found. */
  slice: TableSlice | undefined = undefined;
  at = 0;
  private readonly file: Child;
  private readonly subject: string;
  private readonly geometry: Geometry;
  private readonly cache: TableCache;
  private writing: Promise<void> = Promise.resolve();
  private failure: unknown = undefined;

  constructor(file: Child, subject: string, geometry: Geometry) {
    this.file = file;
    this.subject = subject;
    this.geometry = geometry;
    const makeClean = (): Promise<void> => this.writeBack();
    this.cache = new TableCache({ file, sliceBytes: SLICE, maxSlices: SLICES, makeClean });
  }

  counters(): CacheCounters {
    return this.cache.counters();
  }

  /** False: load. */
  locate(cluster: number): boolean {
    const position = cluster * ENTRY;
    this.at = position % SLICE;
    this.slice = this.cache.get(HEADER_LENGTH + position - this.at);
    return this.slice !== undefined;
  }

  /** Entries from the located one to the end of its slice. */
  get runInSlice(): number {
    return (SLICE - this.at) / ENTRY;
  }

  /** Byte of the file where the located cluster lies, 0 without a place. */
  place(cluster: number): number {
    const { entryUnit, dataOffset, clusterSize } = this.geometry;
    const entry = this.slice?.bytes.readUInt32LE(this.at) ?? 0;
    if (entry === 0) return 0;
    const place = entry * entryUnit;
    if (place >= dataOffset && place < this.file.size && (place - dataOffset) % clusterSize === 0)
      return place;
    const wanted = `must be whole clusters (${clusterSize} bytes) from ${dataOffset} on, below ${this.file.size}`;
    throw damaged(this.subject, `BAT entry ${cluster} is ${entry}, byte ${place}`, wanted);
  }

  /** Entries from the located one on that go on as it began: none, or one cluster behind the other. */
  run(max: number): number {
    const { slice, at } = this;
    if (slice === undefined) return 0;
    const first = slice.bytes.readUInt32LE(at);
    const step = first === 0 ? 0 : this.geometry.clusterSize / this.geometry.entryUnit;
    const limit = Math.min(max, this.runInSlice);
    let count = 1;
    while (count < limit && slice.bytes.readUInt32LE(at + count * ENTRY) === first + count * step) count += 1;
    return count;
  }

  get hasRoom(): boolean {
    return !this.cache.crowded;
  }

  /** Points entries at clusters one behind the other. The slice was pinned since it was located. */
  set(slice: TableSlice, at: number, place: number, count: number): void {
    const { clusterSize, entryUnit } = this.geometry;
    for (let index = 0; index < count; index += 1) {
      slice.bytes.writeUInt32LE((place + index * clusterSize) / entryUnit, at + index * ENTRY);
    }
    this.cache.markDirty(slice, at, count * ENTRY);
  }

  load(): Promise<void> {
    return this.cache.load();
  }

  forget(): void {
    this.cache.forget();
  }

  /** One at a time; after a failure every later call fails as well. */
  writeBack(): Promise<void> {
    const run = this.writing.then(() => this.write());
    this.writing = run.catch(() => {});
    return run;
  }

  private async write(): Promise<void> {
    if (this.failure !== undefined) {
      const why = this.failure instanceof Error ? this.failure.message : 'unknown';
      const text = `Cannot write the BAT of "${this.subject}": an earlier write failed: ${why}`;
      throw new BlockError('EIO', text, {}, this.failure);
    }
    try {
      await this.cache.writeTaken(this.cache.takeDirty());
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }
}
