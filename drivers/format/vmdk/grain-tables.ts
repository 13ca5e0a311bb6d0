import type { Child } from '../../../src/block/child.ts';
import { damaged } from '../../../src/block/refuse.ts';
import { decodeDirectory, decodeTable, entryWidth } from './entries.ts';
import type { PlaceRule, SparseGeometry } from './geometry.ts';
import { FIRST_PLACE } from './geometry.ts';
import type { Need } from './need.ts';
import type { TableCache, TableOwner } from './table-cache.ts';
import { GrainTable } from './table-cache.ts';

const CHUNK = 1024 * 1024;

export interface TablesParts {
  readonly file: Child;
  readonly subject: string;
  readonly geometry: SparseGeometry;
  readonly need: Need;
  readonly cache: TableCache;
}

/** Reads a grain directory whole; the caller has checked its size. */
export async function readDirectory(
  file: Child,
  geometry: SparseGeometry,
  offset: number,
): Promise<Uint32Array> {
  const entries = new Uint32Array(geometry.directoryEntries);
  const width = entryWidth(geometry);
  const step = CHUNK / width;
  for (let first = 0; first < entries.length; first += step) {
    const piece = entries.subarray(first, first + step);
    const bytes = Buffer.allocUnsafe(piece.length * width);
    await file.read(bytes, offset + first * width);
    decodeDirectory(geometry, bytes, piece);
  }
  return entries;
}

/** Bytes into the file of what an entry names. */
export const placeOf = (rule: PlaceRule, entry: number): number => rule.base + entry * rule.scale;

/** The grain directory of one extent and those of its tables that are in memory. */
export class GrainTables implements TableOwner {
  readonly directory: Uint32Array;
  /** The redundant directory, entry by entry beside the first; only where the extent is written. */
  redundant: Uint32Array | undefined = undefined;
  private readonly parts: TablesParts;
  private readonly tables = new Map<number, GrainTable>();
  private readonly loading = new Map<number, Promise<void>>();
  private readonly scratch: Buffer;
  private last: GrainTable | undefined = undefined;

  constructor(parts: TablesParts, directory: Uint32Array) {
    this.parts = parts;
    this.directory = directory;
    this.scratch = Buffer.allocUnsafe(parts.geometry.tableEntries * entryWidth(parts.geometry));
  }

  /** Whether the directory has no table there: all its grains are alike, and read as `directory[index]` says. */
  isHole(index: number): boolean {
    const pointer = this.directory[index] ?? 0;
    return pointer === 0 || (pointer === 1 && this.parts.geometry.zeroedGrains);
  }

  /** A table that exists, if it is in memory or can be read at once; else undefined, and the need is noted. */
  tryGet(index: number): GrainTable | undefined {
    const { last } = this;
    if (last !== undefined && last.index === index) return last;
    const table = this.tables.get(index) ?? this.tryLoad(index);
    if (table === undefined) return undefined;
    this.parts.cache.touch(table);
    this.last = table;
    return table;
  }

  /** Puts a table in memory that is in no file yet. */
  add(index: number, fill: number): GrainTable {
    return this.insert(index, new Uint32Array(this.parts.geometry.tableEntries).fill(fill));
  }

  forget(table: GrainTable): void {
    this.tables.delete(table.index);
    if (this.last === table) this.last = undefined;
  }

  /** Bytes into the file; throws when the directory names a place that can't be. */
  tablePlace(directory: Uint32Array, index: number): number {
    const { geometry, file, subject } = this.parts;
    const entry = directory[index] ?? 0;
    const place = placeOf(geometry.tablePlace, entry);
    if (entry >= FIRST_PLACE && place >= geometry.reserved && place < file.size) return place;
    const name = directory === this.directory ? 'grain directory' : 'redundant grain directory';
    const wanted = `must be 0 or lie from byte ${geometry.reserved} to ${file.size}`;
    throw damaged(subject, `entry ${index} of the ${name} is ${entry} (byte ${place})`, wanted);
  }

  private tryLoad(index: number): GrainTable | undefined {
    const { file, need } = this.parts;
    const place = this.tablePlace(this.directory, index);
    // A read under way may bring older bytes than a change made meanwhile would have: wait for it.
    if (!this.loading.has(index) && file.tryRead(this.scratch, 0, this.scratch.length, place)) {
      return this.insert(index, this.decoded(this.scratch));
    }
    need.want(() => this.load(index, place));
    return undefined;
  }

  private load(index: number, place: number): Promise<void> {
    if (this.tables.has(index)) return Promise.resolve();
    const known = this.loading.get(index);
    if (known !== undefined) return known;
    const load = this.read(index, place).finally(() => this.loading.delete(index));
    this.loading.set(index, load);
    return load;
  }

  private async read(index: number, place: number): Promise<void> {
    const bytes = Buffer.allocUnsafe(this.scratch.length);
    await this.parts.file.read(bytes, place);
    if (!this.tables.has(index)) this.insert(index, this.decoded(bytes));
  }

  private decoded(bytes: Buffer): Uint32Array {
    const entries = new Uint32Array(this.parts.geometry.tableEntries);
    decodeTable(this.parts.geometry, bytes, entries);
    return entries;
  }

  private insert(index: number, entries: Uint32Array): GrainTable {
    const table = new GrainTable(this, index, entries);
    this.tables.set(index, table);
    this.parts.cache.add(table);
    return table;
  }
}
