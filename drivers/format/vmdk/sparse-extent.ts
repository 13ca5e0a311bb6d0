import type { Child } from '../../../src/block/child.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import { damaged } from '../../../src/block/refuse.ts';
import type { CompressedGrains } from './compressed-grains.ts';
import type { DiskExtent, ExtentDescription } from './disk-extent.ts';
import { readOnlyExtent } from './flat-extent.ts';
import type { SparseGeometry } from './geometry.ts';
import { FIRST_PLACE } from './geometry.ts';
import type { GrainTables } from './grain-tables.ts';
import { placeOf } from './grain-tables.ts';
import { growSparse } from './grow-sparse.ts';
import type { GrainWriter } from './grain-writer.ts';
import type { Need } from './need.ts';

export interface SparseParts {
  readonly file: Child;
  readonly subject: string;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  readonly need: Need;
  readonly length: number;
  readonly description: ExtentDescription;
  /** Left out when the extent can only be read. */
  readonly makeWriter: (() => Promise<GrainWriter>) | undefined;
  /** Left out when grains are stored as they are. */
  readonly compressed: CompressedGrains | undefined;
  /** Opens it once more, of another length; left out where that can't change. */
  readonly reopen: ((length: number) => Promise<SparseExtent>) | undefined;
}

/** Grains found through a directory and tables: SPARSE, VMFSSPARSE and SESPARSE extents. */
export class SparseExtent implements DiskExtent {
  readonly length: number;
  readonly unit: number;
  readonly description: ExtentDescription;
  readonly parts: SparseParts;
  /** None while the extent is only read. */
  writer: GrainWriter | undefined;
  private readonly geometry: SparseGeometry;
  private readonly tables: GrainTables;
  readonly resize?: (length: number) => Promise<DiskExtent>;

  constructor(parts: SparseParts, writer: GrainWriter | undefined) {
    this.parts = parts;
    this.writer = writer;
    this.geometry = parts.geometry;
    this.tables = parts.tables;
    this.length = parts.length;
    this.unit = parts.geometry.grainSize;
    this.description = parts.description;
    const { reopen } = parts;
    if (reopen !== undefined) this.resize = (length) => this.grow(length, reopen);
  }

  get canWrite(): boolean {
    return this.parts.makeWriter !== undefined;
  }

  async prepareWriting(): Promise<() => void> {
    const writer = this.writer ?? (await this.parts.makeWriter?.());
    return () => {
      this.writer = writer;
    };
  }

  async settle(): Promise<void> {
    await this.writer?.close();
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { grainSize, tableEntries, zeroedGrains } = this.geometry;
    const grain = Math.floor(offset / grainSize);
    const inGrain = offset - grain * grainSize;
    const index = Math.floor(grain / tableEntries);
    if (this.tables.isHole(index)) return this.mapHole(index, offset, max, out);
    const table = this.tables.tryGet(index);
    if (table === undefined) return false;
    const slot = grain - index * tableEntries;
    const value = table.entries[slot] ?? 0;
    const isPlace = value >= FIRST_PLACE || (value === 1 && !zeroedGrains);
    const step =
      isPlace && this.parts.compressed === undefined ? grainSize / this.geometry.grainPlace.scale : 0;
    const wanted = Math.min(tableEntries - slot, Math.ceil((inGrain + max) / grainSize));
    const grains = wanted === 1 ? 1 : this.run(table.entries, slot, wanted, step);
    const length = Math.min(max, grains * grainSize - inGrain);
    if (!isPlace) return value === 1 ? out.setZero(length) : out.setUnallocated(length);
    const place = this.checkedPlace(value, grains, grain);
    if (this.parts.compressed !== undefined) return out.setOpaque(length, true);
    return out.setData(this.parts.file, place + inGrain, length, this.writer?.ready === true);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    if (this.writer === undefined) throw readOnlyExtent(this.description);
    return this.writer.tryAllocate(offset, length, out);
  }

  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    if (this.writer === undefined) throw readOnlyExtent(this.description);
    return this.writer.tryZero(offset, length, mayUnmap);
  }

  tryDiscard(offset: number, length: number): number | false {
    if (this.writer === undefined) return length;
    return this.writer.tryDiscard(offset, length);
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    await this.parts.compressed?.read(bytes, offset);
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.parts.compressed?.tryRead(bytes, at, length, offset) ?? false;
  }

  async flush(): Promise<void> {
    await this.writer?.flush();
  }

  async close(): Promise<void> {
    await this.parts.compressed?.close();
    await this.settle();
  }

  private async grow(
    length: number,
    reopen: (length: number) => Promise<SparseExtent>,
  ): Promise<SparseExtent> {
    const { file, geometry, tables, description } = this.parts;
    await this.settle();
    if (length > geometry.capacity) {
      await this.clearBehind(geometry.capacity);
      await this.settle();
      const { writer } = this;
      const uncertain = (isSo: boolean): void => {
        this.writer = isSo ? undefined : writer;
      };
      await growSparse({ file, filename: description.filename, geometry, tables, uncertain }, length);
    }
    return reopen(length);
  }

  /** What the last table has behind the end of the disk must not become a part of it. */
  private async clearBehind(end: number): Promise<void> {
    const { grainSize, tableEntries } = this.geometry;
    const { file, need } = this.parts;
    const index = Math.floor(end / (grainSize * tableEntries));
    if (end % (grainSize * tableEntries) === 0 || this.tables.isHole(index)) return;
    let table = this.tables.tryGet(index);
    for (; table === undefined; table = this.tables.tryGet(index)) await need.load();
    const inGrain = end % grainSize;
    const slot = Math.floor(end / grainSize) % tableEntries;
    const value = table.entries[slot] ?? 0;
    if (inGrain > 0 && value >= FIRST_PLACE) {
      const place = placeOf(this.geometry.grainPlace, value) + inGrain;
      await file.writeZeroes(place, grainSize - inGrain);
      await file.flush();
    }
    const behind = table.entries.subarray(slot + (inGrain > 0 ? 1 : 0));
    if (behind.every((entry) => entry === 0)) return;
    while (this.writer?.tryRewrite(table) === false) await need.load();
    behind.fill(0);
  }

  /** Neighbouring tables that are missing are one extent. */
  private mapHole(index: number, offset: number, max: number, out: Extent): boolean {
    const { directory } = this.tables;
    const { grainSize, tableEntries } = this.geometry;
    const span = grainSize * tableEntries;
    const kind = directory[index];
    let end = (index + 1) * span;
    for (let next = index + 1; end < offset + max && directory[next] === kind; next += 1) end += span;
    const length = Math.min(max, end - offset);
    return kind === 1 ? out.setZero(length) : out.setUnallocated(length);
  }

  /** Grains from `slot` on that continue what begins there. */
  private run(entries: Uint32Array, slot: number, wanted: number, step: number): number {
    const first = entries[slot] ?? 0;
    let grains = 1;
    if (this.parts.compressed !== undefined && first >= FIRST_PLACE) {
      while (grains < wanted && (entries[slot + grains] ?? 0) >= FIRST_PLACE) grains += 1;
      return grains;
    }
    while (grains < wanted && entries[slot + grains] === first + grains * step) grains += 1;
    return grains;
  }

  /** Bytes into the file of `grains` grains in a row; throws when they can't be there. */
  private checkedPlace(value: number, grains: number, grain: number): number {
    const { grainPlace, grainSize, reserved, compressed } = this.geometry;
    const { file, subject } = this.parts;
    const place = placeOf(grainPlace, value);
    const last = compressed ? place : place + (grains - 1) * grainSize;
    if (place >= reserved && last < file.size) return place;
    const wanted = `must be from byte ${reserved} to ${file.size} of "${this.description.filename}"`;
    throw damaged(subject, `grain ${grain} is at byte ${place}`, wanted);
  }
}
