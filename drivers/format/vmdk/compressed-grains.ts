import type { Child } from '../../../src/block/child.ts';
import type { DecompressedCache } from '../../../src/block/decompressed-cache.ts';
import { readBlocks, tryReadBlocks } from '../../../src/block/decompressed-cache.ts';
import { damaged } from '../../../src/block/refuse.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import type { SparseGeometry } from './geometry.ts';
import { FIRST_PLACE } from './geometry.ts';
import { inflateGrain, inflateLastGrain } from './inflate-grain.ts';
import type { GrainTables } from './grain-tables.ts';
import { placeOf } from './grain-tables.ts';
import type { Need } from './need.ts';
import { SECTOR } from './layout.ts';

/** In front of each grain: its sector of the disk (8 bytes), the bytes of compressed data that follow (4). */
const MARKER = 12;
/** Grains read ahead of a sequential reader: enough to keep the thread pool busy. */
const AHEAD = 6;

export interface CompressedParts {
  readonly file: Child;
  readonly subject: string;
  readonly filename: string;
  readonly length: number;
  readonly geometry: SparseGeometry;
  readonly tables: GrainTables;
  readonly need: Need;
  readonly unpacker: UnpackService;
  /** Shared by all extents of the image; `firstKey` sets them apart. */
  readonly cache: DecompressedCache;
  readonly firstKey: number;
}

/** Grains stored deflated: streamOptimized. Inflated by threads, a few kept. */
export class CompressedGrains {
  private readonly parts: CompressedParts;
  private readonly ahead = new Set<Promise<unknown>>();
  private lastRead = -2;
  private closed = false;

  constructor(parts: CompressedParts) {
    this.parts = parts;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { cache, firstKey, geometry } = this.parts;
    return tryReadBlocks({ bytes, at, length }, offset, geometry.grainSize, (grain) =>
      cache.get(firstKey + grain),
    );
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    const { grainSize } = this.parts.geometry;
    const first = Math.floor(offset / grainSize);
    const last = Math.floor((offset + bytes.length - 1) / grainSize);
    const sequential = first === this.lastRead || first === this.lastRead + 1;
    this.lastRead = last;
    if (sequential) this.readAhead(last + 1);
    await readBlocks(bytes, offset, grainSize, (grain) => this.fetch(grain));
  }

  /** Waits for what was read ahead. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.ahead);
  }

  private readAhead(from: number): void {
    const { cache, firstKey, geometry, length } = this.parts;
    const end = Math.min(from + AHEAD, Math.ceil(length / geometry.grainSize));
    for (let grain = from; grain < end && !this.closed; grain += 1) {
      if (cache.get(firstKey + grain) !== undefined || !this.isStored(grain)) continue;
      const reading: Promise<unknown> = this.fetch(grain)
        .catch(() => undefined)
        .finally(() => this.ahead.delete(reading));
      this.ahead.add(reading);
    }
  }

  /** Whether a grain is known to be there, from tables in memory alone. */
  private isStored(grain: number): boolean {
    const { tables, geometry } = this.parts;
    const index = Math.floor(grain / geometry.tableEntries);
    if (tables.isHole(index)) return false;
    const table = tables.tryGet(index);
    return (table?.entries[grain % geometry.tableEntries] ?? 0) >= FIRST_PLACE;
  }

  private fetch(grain: number): Promise<Buffer> {
    const { cache, firstKey, geometry, length } = this.parts;
    const { grainSize } = geometry;
    const key = firstKey + grain;
    if ((grain + 1) * grainSize > length) return cache.fetch(key, () => this.lastGrain(grain));
    return cache.fetchInto(key, grainSize, (room) => this.inflateTo(room, grain));
  }

  private async inflateTo(room: Buffer, grain: number): Promise<void> {
    const stored = await this.readGrain(grain);
    await this.guarded(grain, inflateGrain(this.parts.unpacker, stored, room));
  }

  private async lastGrain(grain: number): Promise<Buffer> {
    const { grainSize } = this.parts.geometry;
    const block = await this.guarded(grain, inflateLastGrain(await this.readGrain(grain), grainSize));
    const wanted = this.parts.length - grain * grainSize;
    if (block.length >= wanted) return block;
    throw this.damage(grain, undefined, `has ${block.length} bytes when inflated, must have ${wanted}`);
  }

  /** What is stored of a grain, without its marker. */
  private async readGrain(grain: number): Promise<Buffer> {
    const { file, geometry } = this.parts;
    const { place, stored } = await this.locate(grain);
    const most = geometry.grainSize * 2 + SECTOR;
    const guess = Math.min(
      stored > 0 && stored <= most ? stored : geometry.grainSize + SECTOR,
      file.size - place,
    );
    const bytes = Buffer.allocUnsafe(guess);
    await file.read(bytes, place);
    if (!geometry.markers) return bytes;
    const size = guess >= MARKER ? bytes.readUInt32LE(8) : 0;
    if (size === 0 || size > most || place + MARKER + size > file.size) {
      throw this.damage(grain, place, `has ${size} bytes of data, must be 1 to ${most} inside the file`);
    }
    if (MARKER + size <= guess) return bytes.subarray(MARKER, MARKER + size);
    const whole = Buffer.allocUnsafe(size);
    await file.read(whole, place + MARKER);
    return whole;
  }

  /** Where a grain is, and how many bytes lie between it and the next one in the file (0: not known). */
  private async locate(grain: number): Promise<{ place: number; stored: number }> {
    const { tables, geometry, need, file } = this.parts;
    const { tableEntries, grainPlace } = geometry;
    const index = Math.floor(grain / tableEntries);
    let table = tables.tryGet(index);
    while (table === undefined) {
      await need.load();
      table = tables.tryGet(index);
    }
    const slot = grain % tableEntries;
    const place = placeOf(grainPlace, table.entries[slot] ?? 0);
    if (place < geometry.reserved || place >= file.size)
      throw this.damage(grain, place, 'is outside the file');
    const next = table.entries[slot + 1] ?? 0;
    return { place, stored: next >= FIRST_PLACE ? placeOf(grainPlace, next) - place : 0 };
  }

  private guarded<Result>(grain: number, inflating: Promise<Result>): Promise<Result> {
    return inflating.catch((error: unknown) => {
      throw this.damage(grain, undefined, `can't be inflated: ${String(error)}`);
    });
  }

  private damage(grain: number, place: number | undefined, what: string): Error {
    const at = place === undefined ? '' : ` at byte ${place}`;
    return damaged(this.parts.subject, `grain ${grain}${at} of "${this.parts.filename}"`, what);
  }
}
