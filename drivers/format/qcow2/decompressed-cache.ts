import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { freeMemory } from './free-memory.ts';

/**
 * Decompressed clusters by their place in the file; the least recently used go first, and their memory with them. So
 * nobody keeps a buffer from here across an await.
 */
export class DecompressedCache {
  private readonly clusters = new Map<number, Buffer>();
  private readonly capacity: number;
  private hits = 0;
  private misses = 0;

  /** @param capacity clusters */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get(place: number): Buffer | undefined {
    const bytes = this.clusters.get(place);
    if (bytes === undefined) return undefined;
    this.clusters.delete(place);
    this.clusters.set(place, bytes);
    this.hits += 1;
    return bytes;
  }

  counters(clusterSize: number): CacheCounters {
    const { hits, misses, clusters, capacity } = this;
    return {
      name: 'decompressed',
      hits,
      misses,
      bytes: clusters.size * clusterSize,
      capacity: capacity * clusterSize,
    };
  }

  has(place: number): boolean {
    return this.clusters.has(place);
  }

  delete(place: number): void {
    const dead = this.clusters.get(place);
    if (dead === undefined) return;
    this.clusters.delete(place);
    freeMemory(dead);
  }

  set(place: number, bytes: Buffer): void {
    this.misses += 1;
    this.clusters.set(place, bytes);
    for (const [oldest, dead] of this.clusters) {
      if (this.clusters.size <= this.capacity) break;
      this.clusters.delete(oldest);
      freeMemory(dead);
    }
  }
}
