import type { CachedTable } from './table-cache.ts';

/** What a placement holds until commit or abort: its L2 slice stays in memory, its clusters are counted. */
export class Claim {
  readonly slice: CachedTable;
  /** The clusters are new; otherwise they are those that the entries have already. */
  readonly fresh: boolean;

  constructor(slice: CachedTable, fresh: boolean) {
    this.slice = slice;
    this.fresh = fresh;
    slice.pins += 1;
  }

  release(): void {
    this.slice.pins -= 1;
  }
}
