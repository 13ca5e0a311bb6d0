import type { GrainClaim } from './disk-extent.ts';
import type { GrainTable } from './table-cache.ts';

interface RunOwner {
  commit(run: GrainRun): void;
  abort(run: GrainRun): void;
}

/** Neighbouring grains of one table with a place named for them, from tryAllocate to commit or abort. */
export class GrainRun implements GrainClaim {
  readonly table: GrainTable;
  /** First entry of the table. */
  readonly slot: number;
  readonly grains: number;
  /** Bytes into the file. */
  readonly place: number;
  private readonly owner: RunOwner;
  private readonly waiters: (() => void)[] = [];

  constructor(owner: RunOwner, run: { table: GrainTable; slot: number; grains: number; place: number }) {
    this.owner = owner;
    this.table = run.table;
    this.slot = run.slot;
    this.grains = run.grains;
    this.place = run.place;
  }

  commit(): void {
    this.owner.commit(this);
  }

  abort(): void {
    this.owner.abort(this);
  }

  /** Resolves after commit or abort. */
  ended(): Promise<void> {
    return new Promise((resolve) => {
      this.waiters.push(resolve);
    });
  }

  /** For the owner: it has ended. */
  settle(): void {
    for (const wake of this.waiters) wake();
  }
}
