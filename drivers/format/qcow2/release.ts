import debug from 'debug';
import type { Allocator } from './allocator.ts';
import type { DataDiscards } from './data-discards.ts';
import type { FreeRun, Frees } from './frees.ts';
import type { Image } from './image.ts';
import type { Refcounts } from './refcounts.ts';

const log = debug('blockfuse:qcow2');

export interface Released {
  readonly runs: FreeRun[];
  readonly data: Set<number>;
}

/** Phase 3 of a writeback: clusters that no table on disk names any more are punched, then counted down. */
export class Release {
  private readonly image: Image;
  private readonly frees: Frees;
  private readonly dataDiscards: DataDiscards;
  private readonly refcounts: Refcounts;
  private readonly allocator: Allocator;
  private running: Promise<void> = Promise.resolve();

  constructor(
    image: Image,
    parts: { frees: Frees; dataDiscards: DataDiscards; refcounts: Refcounts; allocator: Allocator },
  ) {
    this.image = image;
    this.frees = parts.frees;
    this.dataDiscards = parts.dataDiscards;
    this.refcounts = parts.refcounts;
    this.allocator = parts.allocator;
  }

  get pending(): number {
    return this.frees.count + this.dataDiscards.count;
  }

  /** What was freed so far; the tables that say so are taken in the same turn. */
  take(): Released {
    return { runs: this.frees.take(), data: this.dataDiscards.take() };
  }

  putBack(released: Released): void {
    this.frees.putBack(released.runs);
    this.dataDiscards.putBack(released.data);
  }

  /** The tables are on disk: goes on by itself; nobody's flush waits for holes. */
  start(released: Released): void {
    if (released.runs.length === 0 && released.data.size === 0) return;
    this.running = this.running
      .then(() => this.releaseAll(released))
      .catch((error: unknown) => {
        log('%s: clusters are leaked: %o', this.image.subject, error);
      });
  }

  /** Resolves when everything started so far is done. */
  idle(): Promise<void> {
    return this.running;
  }

  private async releaseAll({ runs, data }: Released): Promise<void> {
    const { clusterSize } = this.image.geometry;
    await this.dataDiscards.release(data, (first, count) =>
      this.image.data.discard(first * clusterSize, count * clusterSize),
    );
    for (const run of runs) await this.releaseRun(run);
  }

  /** Neighbours that nobody else uses are punched as one. */
  private async releaseRun(run: FreeRun): Promise<void> {
    const { clusterSize } = this.image.geometry;
    const end = run.first + run.count;
    for (let first = run.first; first < end;) {
      const count = await this.countLast(first, end);
      if (run.punch && count > 0) {
        await this.image.file.discard(first * clusterSize, count * clusterSize).catch(() => {});
      }
      const stop = first + Math.max(1, count);
      for (; first < stop; first += 1) await this.countDown(first);
    }
  }

  /** How many clusters from `first` on have no other user. */
  private async countLast(first: number, end: number): Promise<number> {
    let cluster = first;
    while (cluster < end && (await this.read(cluster)) === 1) cluster += 1;
    return cluster - first;
  }

  private async read(cluster: number): Promise<number> {
    for (;;) {
      const count = this.refcounts.tryRead(cluster);
      if (count >= 0) return count;
      await this.refcounts.loadPage(cluster);
    }
  }

  private async countDown(cluster: number): Promise<void> {
    while (!this.refcounts.tryRelease(cluster)) await this.refcounts.loadPage(cluster);
    this.allocator.freed(cluster);
  }
}
