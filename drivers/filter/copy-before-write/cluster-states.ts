/**
 * Where the view has each cluster: still in the source, copied to the target, or nowhere since it is not needed (any more).
 * In pages that exist only where something was written, so that a large disk costs nothing at first.
 */
export const ClusterState = { source: 0, target: 1, dropped: 2 } as const;
export type ClusterState = (typeof ClusterState)[keyof typeof ClusterState];

const PAGE = 65536;

export class ClusterStates {
  private readonly initial: ClusterState;
  private readonly pages = new Map<number, Uint8Array>();

  constructor(initial: ClusterState) {
    this.initial = initial;
  }

  get(cluster: number): ClusterState {
    const state = this.pages.get(Math.floor(cluster / PAGE))?.[cluster % PAGE];
    return (state ?? this.initial) as ClusterState;
  }

  set(first: number, end: number, state: ClusterState): void {
    for (let at = first; at < end;) {
      const index = Math.floor(at / PAGE);
      const stop = Math.min(end, (index + 1) * PAGE);
      this.page(index).fill(state, at - index * PAGE, stop - index * PAGE);
      at = stop;
    }
  }

  /** The end of the run of clusters from `first` that are in its state; at most `end`. */
  runEnd(first: number, end: number): number {
    const state = this.get(first);
    let at = first + 1;
    while (at < end) {
      if (!this.pages.has(Math.floor(at / PAGE))) {
        if (state !== this.initial) return at;
        at = Math.min(end, (Math.floor(at / PAGE) + 1) * PAGE);
      } else if (this.get(at) === state) at += 1;
      else return at;
    }
    return at;
  }

  private page(index: number): Uint8Array {
    const known = this.pages.get(index);
    if (known !== undefined) return known;
    const page = new Uint8Array(PAGE).fill(this.initial);
    this.pages.set(index, page);
    return page;
  }
}
