import type { Need } from './need.ts';

interface Hole {
  readonly first: number;
  readonly count: number;
  readonly done: Promise<void>;
}

/**
 * Clusters of an external data file that the tables no longer name. Their place is fixed, so a new write to one must
 * not meet the hole punch: it takes the cluster out of the lists, or waits while its hole is being made.
 */
export class DataDiscards {
  private readonly need: Need;
  private readonly changed: () => void;
  private pending = new Set<number>();
  /** Taken by writebacks, not yet punched. */
  private readonly taken = new Set<Set<number>>();
  private hole: Hole | undefined = undefined;

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
    const { hole } = this;
    if (hole !== undefined && cluster >= hole.first && cluster < hole.first + hole.count) {
      return this.need.want(() => hole.done);
    }
    this.pending.delete(cluster);
    for (const clusters of this.taken) clusters.delete(cluster);
    return true;
  }

  /** To be given to `putBack` or `release` in the end. */
  take(): Set<number> {
    const taken = this.pending;
    this.pending = new Set();
    if (taken.size > 0) this.taken.add(taken);
    return taken;
  }

  putBack(clusters: Set<number>): void {
    this.taken.delete(clusters);
    for (const cluster of clusters) this.pending.add(cluster);
  }

  /** Runs `punch` for what was taken and is still unused; its errors are those of a hint. */
  async release(
    clusters: Set<number>,
    punch: (first: number, count: number) => Promise<void>,
  ): Promise<void> {
    for (const first of [...clusters].sort((a, b) => a - b)) {
      let count = 0;
      while (clusters.delete(first + count)) count += 1;
      if (count === 0) continue;
      const done = punch(first, count).catch(() => {});
      this.hole = { first, count, done };
      await done;
      this.hole = undefined;
    }
    this.taken.delete(clusters);
  }
}
