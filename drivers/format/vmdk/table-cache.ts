/**
 * Grain tables in memory, those of all extents of an image together.
 *
 *     load -> clean -> change -> dirty -> taken by a write-back (copied) -> written -> clean
 *                                  ^------------- change meanwhile ------------'
 *
 * Bounded by bytes. Only tables that nobody needs may go: not changed, not being written, not waited for by a commit.
 */
export class GrainTable {
  readonly index: number;
  readonly entries: Uint32Array;
  readonly owner: TableOwner;
  used = 0;
  /** Placements between tryAllocate and commit. */
  pins = 0;
  dirty = false;
  /** Write-backs that have a copy under way: reading it again could meet the old bytes. */
  writes = 0;

  constructor(owner: TableOwner, index: number, entries: Uint32Array) {
    this.owner = owner;
    this.index = index;
    this.entries = entries;
  }

  get bytes(): number {
    return this.entries.byteLength;
  }

  get idle(): boolean {
    return !this.dirty && this.pins === 0 && this.writes === 0;
  }
}

/** Who finds the tables by number, and has to forget one. */
export interface TableOwner {
  forget(table: GrainTable): void;
}

const CAPACITY = 16 * 1024 * 1024;

export class TableCache {
  /** Bytes of changed tables. */
  dirtyBytes = 0;
  private readonly capacity: number;
  private readonly tables = new Set<GrainTable>();
  private bytes = 0;
  private clock = 0;
  private trimming = false;

  constructor(capacity = CAPACITY) {
    this.capacity = capacity;
  }

  /** So much is changed that a write-back has to come before the next change. */
  get crowded(): boolean {
    return this.dirtyBytes * 2 >= this.capacity;
  }

  touch(table: GrainTable): void {
    this.clock += 1;
    table.used = this.clock;
  }

  add(table: GrainTable): void {
    this.tables.add(table);
    this.bytes += table.bytes;
    this.touch(table);
    if (this.bytes > this.capacity) this.trimSoon();
  }

  changed(table: GrainTable): void {
    if (table.dirty) return;
    table.dirty = true;
    this.dirtyBytes += table.bytes;
  }

  /** The table's changes are on their way; the caller ends it by `written`. */
  taken(table: GrainTable): void {
    table.dirty = false;
    table.writes += 1;
    this.dirtyBytes -= table.bytes;
  }

  written(table: GrainTable): void {
    table.writes -= 1;
    if (this.bytes > this.capacity) this.trimSoon();
  }

  /** In a later turn: who has just loaded a table gets to use it first, however small the cache. */
  private trimSoon(): void {
    if (this.trimming) return;
    this.trimming = true;
    setImmediate(() => {
      this.trimming = false;
      this.trim();
    });
  }

  private trim(): void {
    const target = (this.capacity * 7) / 8;
    const idle = [...this.tables].filter((table) => table.idle).sort((one, other) => one.used - other.used);
    for (const table of idle) {
      if (this.bytes <= target) return;
      this.tables.delete(table);
      this.bytes -= table.bytes;
      table.owner.forget(table);
    }
  }
}
