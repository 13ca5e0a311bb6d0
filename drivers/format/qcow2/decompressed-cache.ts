import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { SpareMemory } from '../../../src/util/spare-memory.ts';

/**
 * Decompressed clusters by their place in the file; the least recently used go first, and their memory is used again: making
 * a buffer for each costs the kernel more than filling it. So nobody keeps a buffer from here across an await.
 */
export class DecompressedCache {
  private readonly clusters = new Map<number, Buffer>();
  private readonly spare: SpareMemory;
  private readonly capacity: number;
  private readonly clusterSize: number;
  private hits = 0;
  private misses = 0;

  /** @param capacity clusters */
  constructor(capacity: number, clusterSize: number) {
    this.capacity = capacity;
    this.clusterSize = clusterSize;
    this.spare = new SpareMemory(capacity * clusterSize);
  }

  get(place: number): Buffer | undefined {
    const bytes = this.clusters.get(place);
    if (bytes === undefined) return undefined;
    this.clusters.delete(place);
    this.clusters.set(place, bytes);
    this.hits += 1;
    return bytes;
  }

  counters(): CacheCounters {
    const { hits, misses, clusters, capacity, clusterSize } = this;
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
    this.giveBack(dead);
  }

  /** Memory for a cluster, to be filled: then `put` or `giveBack` has it. */
  room(): Buffer {
    return this.spare.take(this.clusterSize);
  }

  giveBack(room: Buffer): void {
    this.spare.give(room);
  }

  /** Keeps a cluster in the memory that it was unpacked into. */
  put(place: number, content: Buffer): void {
    this.misses += 1;
    this.delete(place);
    for (const oldest of this.clusters.keys()) {
      if (this.clusters.size < this.capacity) break;
      this.delete(oldest);
    }
    this.clusters.set(place, content);
  }
}
