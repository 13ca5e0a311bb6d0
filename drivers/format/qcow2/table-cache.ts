/** Pieces of tables in memory: L2 slices, pages of refcount blocks. */

/**
 *            load            change             taken by a writeback          written and flushed
 *   (absent) ----> clean ------------> dirty ---------------------> pending ---------------------> clean
 *                    ^                                        |  change: the old bytes are frozen (the writeback
 *                    |                                        v  writes those) and it is dirty for the next one
 *                  trim drops clean tables only         pending + dirty
 */
export class CachedTable {
  readonly key: number;
  readonly bytes: Buffer;
  /** Time of the last use, by the cache's clock. */
  stamp = 0;
  /** Holders that need it to stay: placements not yet committed. */
  pins = 0;
  dirty = false;
  /** Belongs to the writeback that runs. */
  pending = false;
  /** What the running writeback writes instead of `bytes`. */
  frozen: Buffer | undefined = undefined;

  constructor(key: number, bytes: Buffer) {
    this.key = key;
    this.bytes = bytes;
  }

  get evictable(): boolean {
    return !this.dirty && !this.pending && this.pins === 0;
  }
}

/** A bounded set of tables by number; the least recently used clean ones go first. Dirty ones are never dropped. */
export class TableCache {
  /** Changes when tables were given up whose places may hold others now: what was read before is not to be inserted. */
  epoch = 0;
  private readonly tables = new Map<number, CachedTable>();
  private readonly dirtyTables = new Set<CachedTable>();
  private readonly capacity: number;
  private clock = 0;
  private found = 0;
  private inserted = 0;
  private cleanMark = 0;
  private last: CachedTable | undefined = undefined;
  private trimming = false;

  /** @param capacity tables; a few more are held while requests that need them all at once are under way */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.tables.size;
  }

  /** What was missing is found when it is asked for again: that is no hit. */
  get hits(): number {
    return Math.max(0, this.found - this.inserted);
  }

  get misses(): number {
    return this.inserted;
  }

  get dirtyCount(): number {
    return this.dirtyTables.size;
  }

  /** So much is dirty that a writeback has to come before more is loaded. */
  get full(): boolean {
    return this.tables.size >= this.capacity && this.dirtyTables.size * 4 >= this.capacity * 3;
  }

  find(key: number): CachedTable | undefined {
    const { last } = this;
    if (last !== undefined && last.key === key) {
      this.found += 1;
      return last;
    }
    const table = this.tables.get(key);
    if (table === undefined) return undefined;
    this.found += 1;
    this.clock += 1;
    table.stamp = this.clock;
    this.last = table;
    return table;
  }

  insert(key: number, bytes: Buffer): CachedTable {
    const table = new CachedTable(key, bytes);
    this.inserted += 1;
    this.clock += 1;
    table.stamp = this.clock;
    this.tables.set(key, table);
    this.last = table;
    if (this.tables.size > this.capacity) this.trimSoon();
    return table;
  }

  /** To be called before each change of a table's bytes. */
  change(table: CachedTable): void {
    if (table.dirty) return;
    if (table.pending && table.frozen === undefined) table.frozen = Buffer.from(table.bytes);
    table.dirty = true;
    this.dirtyTables.add(table);
  }

  /** The dirty tables, now pending. The caller ends it with `settle`. */
  takeDirty(): CachedTable[] {
    const batch = [...this.dirtyTables];
    this.dirtyTables.clear();
    for (const table of batch) {
      table.dirty = false;
      table.pending = true;
    }
    return batch;
  }

  /** Ends what takeDirty began. What did not reach the disk is dirty again. */
  settle(batch: readonly CachedTable[], written: boolean): void {
    for (const table of batch) {
      table.pending = false;
      table.frozen = undefined;
      if (!written) this.change(table);
    }
    if (this.tables.size > this.capacity) this.trimSoon();
  }

  /** Drops clean tables that were not used since the last call. */
  dropUnused(): void {
    for (const table of this.tables.values()) {
      if (table.evictable && table.stamp <= this.cleanMark) this.drop(table);
    }
    this.cleanMark = this.clock;
    this.last = undefined;
  }

  /** Drops a table though it may be dirty: what it describes is gone. Not while a writeback runs. */
  forget(key: number): void {
    this.epoch += 1;
    const table = this.tables.get(key);
    if (table === undefined) return;
    this.dirtyTables.delete(table);
    this.drop(table);
  }

  /** Forgets everything; only when nothing is dirty or pinned. */
  clear(): void {
    this.epoch += 1;
    this.tables.clear();
    this.dirtyTables.clear();
    this.last = undefined;
  }

  /**
   * Not at once: a request whose table just came in has to get its turn before the table can go again, else many
   * requests with a small cache would push out each other's tables for ever.
   */
  private trimSoon(): void {
    if (this.trimming) return;
    this.trimming = true;
    setImmediate(() => {
      this.trimming = false;
      this.trim();
    });
  }

  private trim(): void {
    const excess = this.tables.size - Math.floor((this.capacity * 7) / 8);
    if (excess <= 0) return;
    const candidates = [...this.tables.values()].filter((table) => table.evictable);
    candidates.sort((a, b) => a.stamp - b.stamp);
    for (const table of candidates.slice(0, excess)) this.drop(table);
  }

  private drop(table: CachedTable): void {
    this.tables.delete(table.key);
    if (this.last === table) this.last = undefined;
  }
}
