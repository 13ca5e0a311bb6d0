import type { Need } from './need.ts';

/**
 * Clusters of an external data file that the tables no longer name. Their place is fixed, so a new write to one must
 * not meet the hole punch: it takes the cluster out of the list, or waits while the hole is being made.
 */
export class DataDiscards {
  private readonly need: Need;
  private readonly changed: () => void;
  private pending = new Set<number>();
  private punching: ReadonlySet<number> = new Set();
  private done: Promise<void> = Promise.resolve();

  constructor(need: Need, changed: () => void) {
    this.need = need;
    this.changed = changed;
  }

  get count(): number {
    return this.pending.size;
  }

  add(cluster: number): void {
    this.pending.add(cluster);
    this.changed();
  }

  /** The cluster is about to be written to; false (need noted) while its hole is being made. */
  tryCancel(cluster: number): boolean {
    if (this.punching.has(cluster)) return this.need.want(() => this.done);
    this.pending.delete(cluster);
    return true;
  }

  take(): Set<number> {
    const taken = this.pending;
    this.pending = new Set();
    return taken;
  }

  putBack(clusters: ReadonlySet<number>): void {
    for (const cluster of clusters) this.pending.add(cluster);
  }

  /** Runs `punch` for what was taken and is still unused; errors are those of a hint. */
  async release(
    clusters: ReadonlySet<number>,
    punch: (first: number, count: number) => Promise<void>,
  ): Promise<void> {
    this.punching = clusters;
    this.done = this.punchAll(clusters, punch).finally(() => {
      this.punching = new Set();
    });
    await this.done;
  }

  private async punchAll(
    clusters: ReadonlySet<number>,
    punch: (first: number, count: number) => Promise<void>,
  ): Promise<void> {
    const sorted = [...clusters].sort((a, b) => a - b);
    for (let at = 0; at < sorted.length;) {
      const first = sorted[at] ?? 0;
      let count = 1;
      while (sorted[at + count] === first + count) count += 1;
      await punch(first, count).catch(() => {});
      at += count;
    }
  }
}
