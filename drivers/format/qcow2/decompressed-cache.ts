/** Decompressed clusters by their place in the file; the least recently used go first. */
export class DecompressedCache {
  private readonly clusters = new Map<number, Buffer>();
  private readonly capacity: number;

  /** @param capacity clusters */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get(place: number): Buffer | undefined {
    const bytes = this.clusters.get(place);
    if (bytes === undefined) return undefined;
    this.clusters.delete(place);
    this.clusters.set(place, bytes);
    return bytes;
  }

  has(place: number): boolean {
    return this.clusters.has(place);
  }

  set(place: number, bytes: Buffer): void {
    this.clusters.set(place, bytes);
    for (const oldest of this.clusters.keys()) {
      if (this.clusters.size <= this.capacity) break;
      this.clusters.delete(oldest);
    }
  }

  clear(): void {
    this.clusters.clear();
  }
}
