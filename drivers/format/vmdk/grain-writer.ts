/**
 * Changes of a sparse extent's tables, all decided within one turn, all in memory; write-back.ts brings them to disk.
 *
 *     tryAllocate   finds a place for a run of grains, keeps their table in memory  -> GrainRun
 *     commit        enters the places into the table
 *     tryZero       enters "zeroes" or "nothing here", the old places become free after the next write-back
 */
import type { Child } from '../../../src/block/child.ts';
import type { Placement } from '../../../src/block/extent.ts';
import type { DirtyMark } from './dirty-mark.ts';
import type { SparseGeometry } from './geometry.ts';
import { FIRST_PLACE, MAX_ENTRY } from './geometry.ts';
import { GrainRun } from './grain-run.ts';
import type { GrainSpace } from './grain-space.ts';
import type { GrainTables } from './grain-tables.ts';
import { placeOf } from './grain-tables.ts';
import type { Need } from './need.ts';
import type { GrainTable, TableCache } from './table-cache.ts';
import { makeTable } from './new-table.ts';
import type { WriteBack } from './write-back.ts';
import { noRoom } from './write-gate.ts';
import type { WriteGate } from './write-gate.ts';

export interface WriterParts {
  readonly file: Child;
  readonly filename: string;
  /** Bytes of the disk in the extent: the last grain may reach beyond. */
  readonly length: number;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  readonly cache: TableCache;
  readonly need: Need;
  readonly space: GrainSpace;
  readonly gate: WriteGate;
  readonly mark: DirtyMark;
  readonly writeBack: WriteBack;
  /** Whether a grain that is not here may read as something else than zeroes. */
  readonly hasBacking: () => boolean;
}

export class GrainWriter {
  private readonly parts: WriterParts;
  private readonly geometry: SparseGeometry;
  /** Named and not yet committed; few. Needed where grains are not aligned to what the core locks. */
  private readonly runs = new Set<GrainRun>();

  constructor(parts: WriterParts) {
    this.parts = parts;
    this.geometry = parts.geometry;
  }

  /** Whether stored grains may be overwritten where they are. */
  get ready(): boolean {
    return this.parts.gate.open && this.parts.mark.set;
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { grainSize, tableEntries } = this.geometry;
    if (!this.tryPrepare()) return false;
    const grain = Math.floor(offset / grainSize);
    const table = this.tryTable(Math.floor(grain / tableEntries));
    if (table === undefined) return false;
    const waiting = this.runAt(grain);
    if (waiting !== undefined) return this.parts.need.want(() => waiting.ended());
    const slot = grain % tableEntries;
    const value = table.entries[slot] ?? 0;
    if (this.isPlace(value)) return this.existing(value, offset, length, out);
    const wanted = Math.min(tableEntries - slot, Math.ceil((offset + length) / grainSize) - grain);
    return this.tryTake(table, slot, this.vacant(table, slot, wanted), out);
  }

  /** Whole grains only; what `from` begins in the middle of has to be written. */
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    const { parts } = this;
    if (!this.startsGrain(offset, length)) return 0;
    if (!this.tryPrepare()) return false;
    return this.tryEmpty(offset, length, { value: parts.hasBacking() ? this.zeroValue : 0, free: mayUnmap });
  }

  tryDiscard(offset: number, length: number): number | false {
    const { grainSize } = this.geometry;
    const rest = grainSize - (offset % grainSize);
    if (!this.startsGrain(offset, length)) return Math.min(rest, length);
    if (!this.tryPrepare()) return false;
    const done = this.tryEmpty(offset, length, {
      value: this.parts.hasBacking() ? this.zeroValue : 0,
      free: true,
    });
    return done === 0 ? Math.min(rest, length) : done;
  }

  commit(run: GrainRun): void {
    const { table, slot, grains } = run;
    const { grainPlace, grainSize } = this.geometry;
    const first = (run.place - grainPlace.base) / grainPlace.scale;
    const step = grainSize / grainPlace.scale;
    for (let index = 0; index < grains; index += 1) table.entries[slot + index] = first + index * step;
    this.changed(table);
    this.end(run);
  }

  abort(run: GrainRun): void {
    this.parts.space.giveBack(run.place, run.grains * this.geometry.grainSize);
    this.end(run);
  }

  /** Has a table written again with both its copies; false to load. */
  tryRewrite(table: GrainTable): boolean {
    if (!this.tryPrepare()) return false;
    this.changed(table);
    return true;
  }

  flush(): Promise<void> {
    return this.parts.writeBack.flush();
  }

  async close(): Promise<void> {
    const { writeBack, space, mark, file } = this.parts;
    await writeBack.flush();
    if (!mark.set) return;
    await space.trim();
    await writeBack.writeEnd();
    await mark.clear();
    await file.flush();
  }

  /** The entry that makes a grain read as zeroes whatever the parent has; undefined where the format has none. */
  private get zeroValue(): number | undefined {
    return this.geometry.zeroedGrains ? 1 : undefined;
  }

  /** The gate is open, the extent is marked as in use, and there is room for a change in memory. */
  private tryPrepare(): boolean {
    const { gate, mark, need, cache, writeBack } = this.parts;
    if (!gate.tryPass()) return false;
    if (!mark.set) return need.want(() => mark.raise());
    return !cache.crowded || need.want(() => writeBack.all());
  }

  /** The table of a directory entry, made if there is none; undefined with the need noted. */
  private tryTable(index: number): GrainTable | undefined {
    const { tables } = this.parts;
    return tables.isHole(index) ? makeTable(this.parts, index) : tables.tryGet(index);
  }

  private tryTake(table: GrainTable, slot: number, grains: number, out: Placement): boolean {
    const { space, need, filename, length } = this.parts;
    const { grainSize, tableEntries, grainPlace } = this.geometry;
    if (!space.tryTake(grains * grainSize, out)) return need.want(() => space.load());
    const taken = out.length / grainSize;
    if ((out.offset + out.length - grainPlace.base) / grainPlace.scale > MAX_ENTRY) {
      space.giveBack(out.offset, out.length);
      throw noRoom(filename);
    }
    const run = new GrainRun(this, { table, slot, grains: taken, place: out.offset });
    table.pins += 1;
    this.runs.add(run);
    out.start = (table.index * tableEntries + slot) * grainSize;
    out.length = Math.min(out.length, length - out.start);
    out.token = run;
    return true;
  }

  /** Where the grain is already: no more than the bytes asked for, so that nothing else is touched. */
  private existing(value: number, offset: number, length: number, out: Placement): boolean {
    const { grainSize, grainPlace } = this.geometry;
    const inGrain = offset % grainSize;
    out.child = this.parts.file;
    out.offset = placeOf(grainPlace, value) + inGrain;
    out.start = offset;
    out.length = Math.min(length, grainSize - inGrain);
    out.zeroed = false;
    out.token = undefined;
    return true;
  }

  /** Grains from `slot` on that have no place and that nobody is filling. */
  private vacant(table: GrainTable, slot: number, wanted: number): number {
    const first = table.index * this.geometry.tableEntries + slot;
    let grains = 1;
    while (grains < wanted && !this.isPlace(table.entries[slot + grains] ?? 0)) {
      if (this.runs.size > 0 && this.runAt(first + grains) !== undefined) break;
      grains += 1;
    }
    return grains;
  }

  private runAt(grain: number): GrainRun | undefined {
    const { tableEntries } = this.geometry;
    for (const run of this.runs) {
      const first = run.table.index * tableEntries + run.slot;
      if (grain >= first && grain < first + run.grains) return run;
    }
    return undefined;
  }

  private isPlace(value: number): boolean {
    return value >= FIRST_PLACE || (value === 1 && !this.geometry.zeroedGrains);
  }

  private startsGrain(offset: number, length: number): boolean {
    const { grainSize } = this.geometry;
    return offset % grainSize === 0 && (length >= grainSize || offset + length >= this.parts.length);
  }

  /** Empties grains of one table. @param to.value undefined: a grain over a parent can't be emptied */
  private tryEmpty(
    offset: number,
    length: number,
    to: { value: number | undefined; free: boolean },
  ): number | false {
    const { tables, hasBacking } = this.parts;
    const { grainSize, tableEntries } = this.geometry;
    const grain = offset / grainSize;
    const index = Math.floor(grain / tableEntries);
    const slot = grain - index * tableEntries;
    const reachesEnd = offset + length >= this.parts.length;
    const whole = reachesEnd ? Math.ceil(length / grainSize) : Math.floor(length / grainSize);
    const grains = Math.min(tableEntries - slot, whole);
    if (tables.isHole(index) && (!hasBacking() || tables.directory[index] === 1)) {
      return Math.min(length, grains * grainSize);
    }
    if (to.value === undefined) return 0;
    const table = this.tryTable(index);
    if (table === undefined) return false;
    const done = this.empty(table, { slot, grains, value: to.value, free: to.free });
    return Math.min(length, done * grainSize);
  }

  private empty(
    table: GrainTable,
    how: { slot: number; grains: number; value: number; free: boolean },
  ): number {
    const { slot, value } = how;
    let count = 0;
    let changed = false;
    for (; count < how.grains; count += 1) {
      const old = table.entries[slot + count] ?? 0;
      if (this.isPlace(old)) {
        if (!how.free) break;
        this.parts.writeBack.release(placeOf(this.geometry.grainPlace, old));
      } else if (old === value || old === 1) {
        continue;
      }
      table.entries[slot + count] = value;
      changed = true;
    }
    if (changed) this.changed(table);
    return count;
  }

  private changed(table: GrainTable): void {
    this.parts.cache.changed(table);
    this.parts.writeBack.changed(table);
  }

  private end(run: GrainRun): void {
    run.table.pins -= 1;
    this.runs.delete(run);
    run.settle();
  }
}
