import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { GrainSpace } from './grain-space.ts';

interface Run {
  readonly offset: number;
  length: number;
}

/** More runs than this are not remembered: their room is lost until the image is copied. */
const MAX_RUNS = 65536;

/** Places of grains that were given up: useless while an entry on disk may name them, then holes to be used again. */
export class FreedPlaces {
  private readonly grainSize: number;
  private runs: Run[] = [];

  constructor(grainSize: number) {
    this.grainSize = grainSize;
  }

  add(offset: number): void {
    const last = this.runs.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += this.grainSize;
    else if (this.runs.length < MAX_RUNS) this.runs.push({ offset, length: this.grainSize });
  }

  take(): readonly Run[] {
    const { runs } = this;
    this.runs = [];
    return runs;
  }

  restore(runs: readonly Run[]): void {
    this.runs = [...runs, ...this.runs];
  }

  /** No entry on disk names them any more. Punches holes first: nobody can have been given the place yet. */
  async reuse(runs: readonly Run[], file: Child, space: GrainSpace): Promise<void> {
    for (const { offset, length } of runs) {
      await file.discard(offset, length).catch((error: unknown) => {
        if (!(error instanceof BlockError)) throw error;
      });
      space.giveBack(offset, length);
    }
  }
}
