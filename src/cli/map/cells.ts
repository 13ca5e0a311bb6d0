/** The address space of a disk in a bounded number of cells: how many bytes of each are in which state. */
import type { MapEntry } from '../map-entries.ts';

export const COLUMNS = 64;
const MOST_ROWS = 48;
const LEAST_CELL = 4096;
/** Layers that are told apart; those below are counted as one. */
export const LAYERS = 6;

export const STATES = ['data', 'compressed', 'zero'] as const;
export type State = (typeof STATES)[number];

/** What a byte can be: a state in a layer, or in no layer. */
export interface Kind {
  readonly state: State | 'unallocated';
  readonly layer: number;
}

const UNALLOCATED = LAYERS * STATES.length;
/** By number. */
export const KINDS: readonly Kind[] = [
  ...Array.from({ length: UNALLOCATED }, (_, index) => ({
    state: STATES[index % STATES.length] ?? 'data',
    layer: Math.floor(index / STATES.length),
  })),
  { state: 'unallocated', layer: 0 },
];

export class Cells {
  readonly size: number;
  /** Bytes that a cell stands for: a power of two; the last one may be cut by the end of the disk. */
  readonly cellSize: number;
  readonly count: number;
  /** Ranges that were added. */
  ranges = 0;
  private readonly bytes: Float64Array;

  constructor(size: number) {
    this.size = size;
    let cellSize = LEAST_CELL;
    while (size / cellSize > COLUMNS * MOST_ROWS) cellSize *= 2;
    this.cellSize = cellSize;
    this.count = Math.ceil(size / cellSize);
    this.bytes = new Float64Array(this.count * KINDS.length);
  }

  get rows(): number {
    return Math.ceil(this.count / COLUMNS);
  }

  add(entry: Pick<MapEntry, 'start' | 'length' | 'depth' | 'present' | 'zero' | 'compressed'>): void {
    this.ranges += 1;
    const kind = kindOf(entry);
    const end = entry.start + entry.length;
    for (let at = entry.start; at < end;) {
      const cell = Math.floor(at / this.cellSize);
      const stop = Math.min(end, (cell + 1) * this.cellSize);
      const index = cell * KINDS.length + kind;
      this.bytes[index] = (this.bytes[index] ?? 0) + stop - at;
      at = stop;
    }
  }

  /** What is in a cell, most first; numbers of kinds. */
  shares(cell: number): { readonly kind: number; readonly bytes: number }[] {
    return KINDS.map((_, kind) => ({ kind, bytes: this.bytes[cell * KINDS.length + kind] ?? 0 }))
      .filter(({ bytes }) => bytes > 0)
      .sort((one, other) => other.bytes - one.bytes);
  }

  /** Bytes of each kind in the whole disk. */
  totals(): number[] {
    const totals = KINDS.map(() => 0);
    for (let index = 0; index < this.bytes.length; index += 1) {
      const kind = index % KINDS.length;
      totals[kind] = (totals[kind] ?? 0) + (this.bytes[index] ?? 0);
    }
    return totals;
  }
}

function kindOf({ depth, present, zero, compressed }: Parameters<Cells['add']>[0]): number {
  if (!present) return UNALLOCATED;
  const state = zero ? 'zero' : compressed ? 'compressed' : 'data';
  return Math.min(depth, LAYERS - 1) * STATES.length + STATES.indexOf(state);
}
