import type { Extent } from '../../../src/block/extent.ts';
import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import type { CachedTable } from './table-cache.ts';
import { TableStore } from './table-store.ts';

export interface L2CacheOptions {
  /** Slices. */
  readonly capacity: number;
  readonly makeRoom: () => Promise<void>;
  readonly loaded?: ((bytes: Buffer) => void) | undefined;
}

/**
 * L2 tables in slices. A slice is known by the guest range it describes (guest offset / slice span), not by its place:
 * the hot path does not look at the L1 table, and a table that is copied elsewhere keeps its slices.
 */
export class L2Cache {
  readonly store: TableStore;
  private readonly image: Image;
  private readonly l1: L1Table;
  private readonly sliceSpan: number;

  constructor(image: Image, l1: L1Table, options: L2CacheOptions) {
    this.image = image;
    this.l1 = l1;
    const { sliceSize, sliceSpan, slicesPerTable } = image.geometry;
    this.sliceSpan = sliceSpan;
    this.store = new TableStore({
      file: image.file,
      need: image.need,
      tableSize: sliceSize,
      capacity: options.capacity,
      makeRoom: options.makeRoom,
      loaded: options.loaded,
      place: (key) => {
        const table = l1.tableOffset(Math.floor(key / slicesPerTable));
        if (table === 0) image.corrupt(`the L2 table of slice ${key} is gone`);
        return table + (key % slicesPerTable) * sliceSize;
      },
    });
  }

  /** The slice that describes a guest offset; undefined when there is none or it has to be loaded: `tryHole` tells which. */
  tryFind(offset: number): CachedTable | undefined {
    const key = Math.floor(offset / this.sliceSpan);
    const known = this.store.cache.find(key);
    if (known !== undefined) return known;
    if (this.l1.isEmpty(Math.floor(key / this.image.geometry.slicesPerTable))) return undefined;
    return this.store.tryGet(key);
  }

  /** After tryFind gave nothing: true and an unallocated extent where there is no L2 table; false to load. */
  tryHole(offset: number, max: number, out: Extent): boolean {
    const { tableSpan } = this.image.geometry;
    const index = Math.floor(offset / tableSpan);
    if (!this.l1.isEmpty(index)) return false;
    const tables = this.l1.emptyRun(index, Math.ceil(max / tableSpan) + 1);
    return out.setUnallocated(Math.min(max, (index + tables) * tableSpan - offset));
  }

  /** Bytes from `offset` on that no L2 table describes; 0 when one does. */
  holeLength(offset: number, max: number): number {
    const { tableSpan } = this.image.geometry;
    const index = Math.floor(offset / tableSpan);
    const tables = this.l1.emptyRun(index, Math.ceil(max / tableSpan) + 1);
    return tables === 0 ? 0 : Math.min(max, (index + tables) * tableSpan - offset);
  }

  /** First cluster's index in the slice, of a guest offset. */
  indexOf(offset: number): number {
    return Math.floor((offset % this.sliceSpan) / this.image.geometry.clusterSize);
  }
}
