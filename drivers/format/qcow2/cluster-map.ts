const FIRST_SLOTS = 64;
const WORD = 2 ** 32;

/**
 * Small numbers other than 0 by cluster number, 12 bytes a slot: a map of objects would take ten times as much, and the
 * tables of a hostile image can name millions of clusters. Open addressing, at most two thirds full.
 */
export class ClusterMap {
  size = 0;
  private keys = new Float64Array(FIRST_SLOTS);
  /** 0 where the slot is free. */
  private values = new Int32Array(FIRST_SLOTS);
  private shift = 32 - Math.log2(FIRST_SLOTS);

  /** 0 for what was not set. */
  get(cluster: number): number {
    return this.values[this.slotOf(cluster)] ?? 0;
  }

  set(cluster: number, value: number): void {
    const slot = this.slotOf(cluster);
    if (value === 0) {
      if (this.values[slot] !== 0) this.free(slot);
      return;
    }
    if (this.values[slot] === 0) this.size += 1;
    this.keys[slot] = cluster;
    this.values[slot] = value;
    if (this.size * 3 > this.keys.length * 2) this.grow();
  }

  /** Where the cluster is, or would be. */
  private slotOf(cluster: number): number {
    const mask = this.keys.length - 1;
    let slot = this.home(cluster);
    while (this.values[slot] !== 0 && this.keys[slot] !== cluster) slot = (slot + 1) & mask;
    return slot;
  }

  private home(cluster: number): number {
    return Math.imul((cluster | 0) ^ Math.imul((cluster / WORD) | 0, 0x85ebca6b), 0x9e3779b1) >>> this.shift;
  }

  /** Those behind it that it was in the way of move up, so that none is lost. */
  private free(slot: number): void {
    const mask = this.keys.length - 1;
    let hole = slot;
    for (let next = (slot + 1) & mask; this.values[next] !== 0; next = (next + 1) & mask) {
      const key = this.keys[next] ?? 0;
      if (((next - this.home(key)) & mask) < ((next - hole) & mask)) continue;
      this.keys[hole] = key;
      this.values[hole] = this.values[next] ?? 0;
      hole = next;
    }
    this.values[hole] = 0;
    this.size -= 1;
  }

  private grow(): void {
    const { keys, values } = this;
    this.keys = new Float64Array(keys.length * 2);
    this.values = new Int32Array(keys.length * 2);
    this.shift -= 1;
    this.size = 0;
    for (let slot = 0; slot < keys.length; slot += 1) {
      const value = values[slot] ?? 0;
      if (value !== 0) this.set(keys[slot] ?? 0, value);
    }
  }
}
