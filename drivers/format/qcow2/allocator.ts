import type { Image } from './image.ts';
import type { MetadataClusters } from './metadata-clusters.ts';
import { readRefcount, writeRefcount } from './refcount-entry.ts';
import type { Refcounts } from './refcounts.ts';

/** Pages searched in one turn before others get theirs. */
const PAGES_PER_TURN = 512;
/** Host clusters have to be below this offset: 56 bits of an L1 or L2 entry, and exact as a number. */
const OFFSET_MAX = 2 ** 53;

/**
 * Gives out free host clusters, the lowest first. Everything below `hint` is in use, so each cluster is looked at once;
 * freed ones move the hint back.
 */
export class Allocator {
  /** Clusters of the last take. */
  taken = 0;
  private readonly image: Image;
  private readonly refcounts: Refcounts;
  private readonly metadata: MetadataClusters;
  private readonly cover: (cluster: number) => Promise<void>;
  private hint = 0;
  /** Below this offset old content may lie past what the file's size tells. */
  private usedTo = 0;

  /** @param cover makes a refcount block for a cluster that has none */
  constructor(
    image: Image,
    parts: { refcounts: Refcounts; metadata: MetadataClusters; cover: (cluster: number) => Promise<void> },
  ) {
    this.image = image;
    this.refcounts = parts.refcounts;
    this.metadata = parts.metadata;
    this.cover = parts.cover;
  }

  /** Takes 1 to `want` neighbouring free clusters: the first one's number, and `taken`. False to load. */
  tryTake(want: number): number | false {
    const first = this.tryFindFree();
    if (first === false) return false;
    const { pageEntries, refcountBits } = this.image.geometry;
    const page = this.refcounts.tryPage(first);
    if (page === undefined) return false;
    const index = first % pageEntries;
    const limit = Math.min(want, pageEntries - index);
    this.refcounts.store.cache.change(page);
    let count = 0;
    while (count < limit && readRefcount(page.bytes, index + count, refcountBits) === 0) {
      this.metadata.refuse(first + count);
      writeRefcount(page.bytes, index + count, refcountBits, 1);
      count += 1;
    }
    this.taken = count;
    this.hint = first + count;
    return first;
  }

  /** The same for callers that may wait. */
  async take(want: number): Promise<number> {
    for (;;) {
      const first = this.tryTake(want);
      if (first !== false) return first;
      await this.image.need.load();
    }
  }

  /**
   * Back at once: nothing ever named these clusters. Returns how many of them, from the first; the refcounts of the others
   * are not in memory.
   */
  giveBack(first: number, count: number): number {
    let done = 0;
    while (done < count && this.refcounts.tryRelease(first + done)) done += 1;
    if (done > 0) this.freed(first);
    return done;
  }

  /** No cluster below this one is free. */
  get lowestFree(): number {
    return this.hint;
  }

  /** A cluster's refcount became 0. */
  freed(cluster: number): void {
    this.hint = Math.min(this.hint, cluster);
  }

  /** Whether the file surely reads as zeroes from here on: past its end, and never written to. */
  isFresh(offset: number): boolean {
    return offset >= this.image.file.size && offset >= this.usedTo;
  }

  /** Something may have been written below `offset` that the file's size does not tell. */
  mayBeWritten(offset: number): void {
    this.usedTo = Math.max(this.usedTo, offset);
  }

  private tryFindFree(): number | false {
    const { pageEntries, refcountBits, clusterSize } = this.image.geometry;
    for (let pages = 0; ; pages += 1) {
      const cluster = this.hint;
      if (cluster * clusterSize >= OFFSET_MAX)
        this.image.corrupt(`no free cluster below offset ${OFFSET_MAX}`);
      if (!this.refcounts.isCovered(cluster)) return this.image.need.want(() => this.cover(cluster));
      if (pages === PAGES_PER_TURN) return this.image.need.want(nextTurn);
      const page = this.refcounts.tryPage(cluster);
      if (page === undefined) return false;
      let index = cluster % pageEntries;
      while (index < pageEntries && readRefcount(page.bytes, index, refcountBits) !== 0) index += 1;
      this.hint = cluster - (cluster % pageEntries) + index;
      if (index < pageEntries) return this.hint;
    }
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
