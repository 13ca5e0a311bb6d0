/** Host clusters whose name was taken out of a table in memory, not yet out of the one on disk. */
export interface FreeRun {
  readonly first: number;
  count: number;
  /** Give the space back to the host as well. */
  readonly punch: boolean;
}

/** Why clusters are freed: the options tell for each whether the host gets the space back. */
export type FreeReason = 'request' | 'snapshot' | 'other';

export type DiscardPolicy = Readonly<Record<FreeReason, boolean>>;

/**
 *   commit/zero/discard -> pending -> (tables written and flushed) -> punched -> refcount one less -> may be given out again
 *
 * An entry may name a cluster that others use as well (snapshots): only the last one to go frees it.
 */
export class Frees {
  readonly policies: DiscardPolicy;
  private readonly changed: () => void;
  private readonly mayFree: (first: number, count: number) => boolean;
  private runs: FreeRun[] = [];
  /** Clusters pending. */
  count = 0;
  /** The cluster that further compressed data may share; -1 for none. Not one that is about to be freed. */
  shared = -1;

  /**
   * @param changed called after each addition
   * @param mayFree false: something else is there, the clusters stay as they are
   */
  constructor(
    policy: DiscardPolicy,
    changed: () => void,
    mayFree: (first: number, count: number) => boolean = () => true,
  ) {
    this.policies = policy;
    this.mayFree = mayFree;
    this.changed = changed;
  }

  add(first: number, count: number, reason: FreeReason): void {
    if (!this.mayFree(first, count)) return;
    if (this.shared >= first && this.shared < first + count) this.shared = -1;
    this.append(first, count, this.policies[reason]);
    this.changed();
  }

  take(): FreeRun[] {
    const { runs } = this;
    this.runs = [];
    this.count = 0;
    return runs;
  }

  putBack(runs: readonly FreeRun[]): void {
    for (const run of runs) this.append(run.first, run.count, run.punch);
  }

  private append(first: number, count: number, punch: boolean): void {
    this.count += count;
    const last = this.runs.at(-1);
    if (last !== undefined && last.first + last.count === first && last.punch === punch) last.count += count;
    else this.runs.push({ first, count, punch });
  }
}
