const CHUNK = 65536;

/** How often each host cluster is named by the tables: what its refcount ought to be. Only ranges in use take memory. */
export class ExpectedRefcounts {
  private readonly chunks = new Map<number, Uint32Array>();
  /** One past the highest cluster that is named. */
  end = 0;

  add(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster += 1) {
      const chunk = this.chunkOf(cluster);
      const at = cluster % CHUNK;
      chunk[at] = (chunk[at] ?? 0) + 1;
    }
    this.end = Math.max(this.end, first + count);
  }

  get(cluster: number): number {
    return this.chunks.get(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }

  /** Whether any of [first, first + count) is named. */
  anyIn(first: number, count: number): boolean {
    for (let cluster = first; cluster < first + count; cluster += 1) {
      const chunk = this.chunks.get(Math.floor(cluster / CHUNK));
      if (chunk === undefined) cluster += CHUNK - (cluster % CHUNK) - 1;
      else if (chunk[cluster % CHUNK] !== 0) return true;
    }
    return false;
  }

  clone(): ExpectedRefcounts {
    const copy = new ExpectedRefcounts();
    for (const [index, chunk] of this.chunks) copy.chunks.set(index, chunk.slice());
    copy.end = this.end;
    return copy;
  }

  private chunkOf(cluster: number): Uint32Array {
    const index = Math.floor(cluster / CHUNK);
    const known = this.chunks.get(index);
    if (known !== undefined) return known;
    const chunk = new Uint32Array(CHUNK);
    this.chunks.set(index, chunk);
    return chunk;
  }
}
