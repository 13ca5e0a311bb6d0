/**
 * Brings the tables of one extent to disk, in the order that leaves a sound extent wherever it is cut:
 *
 *     header (COWD: next free sector)  }
 *     grain data                       } flush ->  tables, the redundant ones first  -> flush ->  directories -> flush
 *                                                                                   freed places may be used again
 *
 * An entry on disk thus never names a grain or a table that is not there, and no place is given out again while an
 * entry on disk names it. When a flush fails nobody knows what is on disk: every later one is refused.
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import { Serial } from '../../../src/util/serial.ts';
import type { EndMark } from './end-mark.ts';
import { encodeEntries } from './entries.ts';
import { FreedPlaces } from './freed-places.ts';
import type { SparseGeometry } from './geometry.ts';
import type { GrainSpace } from './grain-space.ts';
import type { GrainTables } from './grain-tables.ts';
import { SECTOR } from './layout.ts';
import type { GrainTable, TableCache } from './table-cache.ts';

export interface WriteBackParts {
  readonly file: Child;
  readonly filename: string;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  readonly cache: TableCache;
  readonly space: GrainSpace;
  /** Says in the header where the file ends, for formats that do. */
  readonly endMark: EndMark | undefined;
  /** Write-back of all extents: they share the memory for tables. */
  readonly all: () => Promise<void>;
}

interface Taken {
  readonly table: GrainTable;
  readonly bytes: Buffer;
}

/** Entries of the directory that are written as one. */
const PER_SECTOR = SECTOR / 4;

export class WriteBack {
  readonly all: () => Promise<void>;
  private readonly parts: WriteBackParts;
  private readonly dirty = new Set<GrainTable>();
  private readonly dirtySectors = new Set<number>();
  private readonly freed: FreedPlaces;
  private readonly serial = new Serial();
  private waiting: Promise<void> | undefined = undefined;
  private failure: unknown = undefined;

  constructor(parts: WriteBackParts) {
    this.parts = parts;
    this.all = parts.all;
    this.freed = new FreedPlaces(parts.geometry.grainSize);
  }

  changed(table: GrainTable): void {
    this.dirty.add(table);
  }

  directoryChanged(index: number): void {
    this.dirtySectors.add(Math.floor(index / PER_SECTOR));
  }

  /** A grain that no entry in memory names any more. */
  release(place: number): void {
    this.freed.add(place);
  }

  /** All that is committed when it is called is on stable storage when it resolves. */
  flush(): Promise<void> {
    if (this.waiting !== undefined) return this.waiting;
    const run = this.serial.run(() => {
      this.waiting = undefined;
      return this.write();
    });
    this.waiting = run;
    return run;
  }

  async writeEnd(): Promise<void> {
    await this.parts.endMark?.write();
  }

  private async write(): Promise<void> {
    if (this.failure !== undefined) throw this.failed();
    const tables = this.takeTables();
    const sectors = this.takeSectors();
    const freed = this.freed.take();
    let done = false;
    try {
      if (tables.length > 0) await this.writeEnd();
      await this.flushFile();
      await this.writeTables(tables);
      await this.writeSectors(sectors);
      done = true;
    } finally {
      for (const { table } of tables) this.parts.cache.written(table);
      if (!done) this.restore(tables, sectors);
      if (!done) this.freed.restore(freed);
    }
    await this.freed.reuse(freed, this.parts.file, this.parts.space);
  }

  private async writeTables(taken: readonly Taken[]): Promise<void> {
    if (taken.length === 0) return;
    const { file, tables } = this.parts;
    for (const { table, bytes } of taken) {
      const { directory, redundant } = tables;
      if (redundant !== undefined) await file.write(bytes, tables.tablePlace(redundant, table.index));
      await file.write(bytes, tables.tablePlace(directory, table.index));
    }
    await this.flushFile();
  }

  private async writeSectors(sectors: readonly DirectorySector[]): Promise<void> {
    if (sectors.length === 0) return;
    const { file, geometry } = this.parts;
    for (const { sector, redundant, bytes } of sectors) {
      const base = redundant
        ? (geometry.redundantOffset ?? geometry.directoryOffset)
        : geometry.directoryOffset;
      await file.write(bytes, base + sector * SECTOR);
    }
    await this.flushFile();
  }

  private takeTables(): Taken[] {
    const { cache, geometry } = this.parts;
    const taken = [...this.dirty].map((table) => {
      cache.taken(table);
      return { table, bytes: encodeEntries(table.entries, geometry.tableSize) };
    });
    this.dirty.clear();
    return taken.sort((one, other) => one.table.index - other.table.index);
  }

  private takeSectors(): DirectorySector[] {
    const { directory, redundant } = this.parts.tables;
    const taken: DirectorySector[] = [];
    for (const sector of this.dirtySectors) {
      const first = sector * PER_SECTOR;
      const piece = (entries: Uint32Array): Buffer => {
        const part = entries.subarray(first, first + PER_SECTOR);
        return encodeEntries(part, part.length * 4);
      };
      if (redundant !== undefined) taken.push({ sector, redundant: true, bytes: piece(redundant) });
      taken.push({ sector, redundant: false, bytes: piece(directory) });
    }
    this.dirtySectors.clear();
    return taken;
  }

  private restore(tables: readonly Taken[], sectors: readonly DirectorySector[]): void {
    for (const { table } of tables) {
      this.parts.cache.changed(table);
      this.dirty.add(table);
    }
    for (const { sector } of sectors) this.dirtySectors.add(sector);
  }

  private async flushFile(): Promise<void> {
    try {
      await this.parts.file.flush();
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  private failed(): BlockError {
    const why = this.failure instanceof Error ? this.failure.message : String(this.failure);
    const text = `Cannot flush extent "${this.parts.filename}": an earlier flush failed: ${why}`;
    return new BlockError(errnoOf(this.failure), text, {}, this.failure);
  }
}

interface DirectorySector {
  readonly sector: number;
  readonly redundant: boolean;
  readonly bytes: Buffer;
}
