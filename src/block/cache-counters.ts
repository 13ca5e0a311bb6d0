/** How well a cache of a driver does. */
export interface CacheCounters {
  /** What it holds: `metadata`, `l2`, `refcounts`, `decompressed`. */
  readonly name: string;
  /** Times that what was wanted was there, and that it was not. */
  readonly hits: number;
  readonly misses: number;
  /** Held now, and at most. */
  readonly bytes: number;
  readonly capacity: number;
}

/** Several caches of one kind as one. */
export function together(name: string, caches: readonly CacheCounters[]): CacheCounters {
  const sum = (of: (cache: CacheCounters) => number): number =>
    caches.reduce((before, cache) => before + of(cache), 0);
  return {
    name,
    hits: sum(({ hits }) => hits),
    misses: sum(({ misses }) => misses),
    bytes: sum(({ bytes }) => bytes),
    capacity: sum(({ capacity }) => capacity),
  };
}
