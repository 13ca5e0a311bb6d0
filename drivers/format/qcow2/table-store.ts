import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { Child } from '../../../src/block/child.ts';
import type { Need } from './need.ts';
import { TableCache } from './table-cache.ts';
import type { CachedTable } from './table-cache.ts';
import { writeTable } from './table-io.ts';

export interface TableStoreParts {
  readonly file: Child;
  readonly need: Need;
  /** Bytes of one table. */
  readonly tableSize: number;
  /** Tables held. */
  readonly capacity: number;
  /** Byte offset in the file of a table that exists; throws when the entry that names it is damaged. */
  readonly place: (key: number) => number;
  /** Told of each table that comes in from the file. */
  readonly loaded?: ((bytes: Buffer) => void) | undefined;
  /** Writes dirty tables back, to make room. */
  readonly makeRoom: () => Promise<void>;
}

/** Tables of one kind: from the file into the cache and back. */
export class TableStore {
  readonly cache: TableCache;
  private readonly parts: TableStoreParts;
  private readonly loading = new Map<number, Promise<void>>();

  constructor(parts: TableStoreParts) {
    this.parts = parts;
    this.cache = new TableCache(parts.capacity);
  }

  counters(name: string): CacheCounters {
    const { tableSize, capacity } = this.parts;
    const { hits, misses, size } = this.cache;
    return { name, hits, misses, bytes: size * tableSize, capacity: capacity * tableSize };
  }

  /** The table, if it is in memory or can be read without waiting; else undefined, and the need is noted. */
  tryGet(key: number): CachedTable | undefined {
    const known = this.cache.find(key);
    if (known !== undefined) return known;
    const { file, need, tableSize, place } = this.parts;
    if (this.cache.full) {
      need.want(this.parts.makeRoom);
      return undefined;
    }
    if (!this.loading.has(key)) {
      const bytes = Buffer.allocUnsafeSlow(tableSize);
      if (file.tryRead(bytes, 0, tableSize, place(key))) return this.insert(key, bytes);
    }
    need.want(() => this.load(key));
    return undefined;
  }

  /** Brings the table into memory; several callers share one read. */
  load(key: number): Promise<void> {
    if (this.cache.find(key) !== undefined) return Promise.resolve();
    const running = this.loading.get(key);
    if (running !== undefined) return running;
    const load = this.read(key).finally(() => {
      this.loading.delete(key);
    });
    this.loading.set(key, load);
    return load;
  }

  /** Writes what takeDirty took; the caller flushes, then settles. */
  async writeAll(batch: readonly CachedTable[]): Promise<void> {
    for (const table of batch) {
      await writeTable(this.parts.file, table.frozen ?? table.bytes, this.parts.place(table.key));
    }
  }

  private async read(key: number): Promise<void> {
    const { epoch } = this.cache;
    const bytes = Buffer.allocUnsafeSlow(this.parts.tableSize);
    await this.parts.file.read(bytes, this.parts.place(key));
    if (this.cache.epoch === epoch && this.cache.find(key) === undefined) this.insert(key, bytes);
  }

  private insert(key: number, bytes: Buffer): CachedTable {
    this.parts.loaded?.(bytes);
    return this.cache.insert(key, bytes);
  }
}
