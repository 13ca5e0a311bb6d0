/**
 * Writes changed tables back in an order that a crash at any point survives: at worst clusters are leaked.
 *
 *   a generation takes everything that is dirty, then:
 *   0  new refcount blocks:   flush                     their content is on disk before the refcount table names them
 *   1  refcounts:             write pages, refcount table; flush data file and file
 *                             (also makes durable the guest data that the tables are about to name)
 *   2  mapping:               write L2 slices, L1 sectors; flush
 *   3  release (release.ts):  clusters that nothing on disk names any more: punch, then refcount one less, in memory
 *
 * Increments may reach the disk early (a leak), decrements exist only after phase 2, so refcount pages need no freezing;
 * L2 slices do: a change during the run belongs to data that phase 1 did not cover. When a phase fails everything is
 * dirty again and the next flush starts over; a failed flush of a child is final, since what it lost is not known.
 */
import { BlockError } from '../../../src/block/errors.ts';
import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import type { MetadataClusters } from './metadata-clusters.ts';
import { Mutex } from './mutex.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { Release } from './release.ts';
import type { CachedTable } from './table-cache.ts';
import type { TableStore } from './table-store.ts';

export interface WritebackParts {
  readonly image: Image;
  readonly l1: L1Table;
  readonly slices: TableStore;
  readonly pages: TableStore;
  readonly refcountTable: RefcountTable;
  readonly release: Release;
  readonly metadata: MetadataClusters;
}

interface Batch {
  readonly slices: CachedTable[];
  readonly pages: CachedTable[];
  readonly l1: Map<number, Buffer>;
  readonly refcountTable: Map<number, Buffer>;
}

export class Writeback {
  private readonly parts: WritebackParts;
  private readonly mutex = new Mutex();
  private queued: Promise<void> | undefined = undefined;
  private failed: BlockError | undefined = undefined;

  constructor(parts: WritebackParts) {
    this.parts = parts;
  }

  /** All that was committed before the call is on stable storage when this resolves. Calls that wait share one run. */
  flush(): Promise<void> {
    this.queued ??= this.mutex.run(() => {
      this.queued = undefined;
      return this.generation(!this.parts.image.lazyRefcounts || this.parts.pages.cache.full);
    });
    return this.queued;
  }

  /** The same with refcounts even where they are lazy: before the dirty bit may be cleared. */
  flushAll(): Promise<void> {
    return this.mutex.run(() => this.generation(true));
  }

  /** Runs a change of the tables' own places while no generation is under way. */
  exclusively(section: () => Promise<void>): Promise<void> {
    return this.mutex.run(section);
  }

  private async generation(withRefcounts: boolean): Promise<void> {
    const { image, release } = this.parts;
    if (this.failed !== undefined) throw this.failed;
    const batch = this.take(withRefcounts);
    const frees = release.take();
    try {
      await this.write(batch);
    } catch (error) {
      this.settle(batch, false);
      release.putBack(frees);
      throw error;
    }
    this.settle(batch, true);
    if (!image.broken) release.start(frees);
  }

  private async write(batch: Batch): Promise<void> {
    const { image, slices, pages, l1, refcountTable } = this.parts;
    const changesMapping = batch.slices.length > 0 || batch.l1.size > 0;
    if (changesMapping || batch.pages.length > 0) {
      this.parts.metadata.verify();
      image.requireSound();
    }
    if (batch.refcountTable.size > 0) await this.flushChildren();
    await pages.writeAll(batch.pages);
    await refcountTable.write(batch.refcountTable);
    await this.flushChildren();
    if (!changesMapping) return;
    await slices.writeAll(batch.slices);
    await l1.write(batch.l1);
    await this.flushChildren();
  }

  private async flushChildren(): Promise<void> {
    const { file, data, external } = this.parts.image;
    try {
      await file.flush();
      if (external) await data.flush();
    } catch (error) {
      if (error instanceof BlockError && error.code !== 'ENOSPC' && error.code !== 'EDQUOT')
        this.failed = error;
      throw error;
    }
  }

  private take(withRefcounts: boolean): Batch {
    const { slices, pages, l1, refcountTable } = this.parts;
    return {
      slices: slices.cache.takeDirty(),
      pages: withRefcounts ? pages.cache.takeDirty() : [],
      l1: l1.takeDirty(),
      refcountTable: withRefcounts ? refcountTable.takeDirty() : new Map<number, Buffer>(),
    };
  }

  private settle(batch: Batch, written: boolean): void {
    const { slices, pages, l1, refcountTable } = this.parts;
    slices.cache.settle(batch.slices, written);
    pages.cache.settle(batch.pages, written);
    if (written) return;
    l1.putBack(batch.l1);
    refcountTable.putBack(batch.refcountTable);
  }
}
