import type { Image } from './image.ts';
import { readRefcount, refcountMax, writeRefcount } from './refcount-entry.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { CachedTable } from './table-cache.ts';
import { TableStore } from './table-store.ts';

/** Refcounts of host clusters, through a cache of pages of the refcount blocks. */
export class Refcounts {
  readonly table: RefcountTable;
  readonly store: TableStore;
  private readonly image: Image;

  constructor(
    image: Image,
    table: RefcountTable,
    options: { capacity: number; makeRoom: () => Promise<void> },
  ) {
    this.image = image;
    this.table = table;
    const { pageSize, pagesPerBlock } = image.geometry;
    this.store = new TableStore({
      file: image.file,
      need: image.need,
      tableSize: pageSize,
      capacity: options.capacity,
      makeRoom: options.makeRoom,
      place: (key) => {
        const block = table.blockOffset(Math.floor(key / pagesPerBlock));
        if (block === 0) image.corrupt(`refcount page ${key} has no block`);
        return block + (key % pagesPerBlock) * pageSize;
      },
    });
  }

  /** Whether a refcount block describes the cluster; without one its refcount is 0 and can't be raised. */
  isCovered(cluster: number): boolean {
    return this.table.blockOffset(Math.floor(cluster / this.image.geometry.blockEntries)) !== 0;
  }

  /** The page with a covered cluster's refcount; undefined to load. */
  tryPage(cluster: number): CachedTable | undefined {
    return this.store.tryGet(Math.floor(cluster / this.image.geometry.pageEntries));
  }

  /** The refcount, or -1 to load. */
  tryRead(cluster: number): number {
    if (!this.isCovered(cluster)) return 0;
    const page = this.tryPage(cluster);
    if (page === undefined) return -1;
    const { pageEntries, refcountBits } = this.image.geometry;
    return readRefcount(page.bytes, cluster % pageEntries, refcountBits);
  }

  /** Sets a covered cluster's refcount; false to load. */
  trySet(cluster: number, value: number): boolean {
    const page = this.tryPage(cluster);
    if (page === undefined) return false;
    const { pageEntries, refcountBits } = this.image.geometry;
    if (value > refcountMax(refcountBits)) {
      this.image.corrupt(
        `the refcount of cluster ${cluster} would be ${value}, over what ${refcountBits} bits hold`,
      );
    }
    this.store.cache.change(page);
    writeRefcount(page.bytes, cluster % pageEntries, refcountBits, value);
    return true;
  }

  /** One less; false to load. A refcount of 0 is damage. */
  tryRelease(cluster: number): boolean {
    const count = this.tryRead(cluster);
    if (count < 0) return false;
    if (!(count > 0)) this.image.corrupt(`cluster ${cluster} is in use but its refcount is ${count}`);
    return this.trySet(cluster, count - 1);
  }

  /** Brings in what a refcount needs, for callers that may wait; unlike load() it never asks for room. */
  async loadPage(cluster: number): Promise<void> {
    await this.store.load(Math.floor(cluster / this.image.geometry.pageEntries));
  }
}
