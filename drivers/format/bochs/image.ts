import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import { damaged } from '../../../src/block/refuse.ts';
import { TableCache } from '../../../src/block/table-cache.ts';
import type { BochsLayout } from './header.ts';

const SLICE = 64 * 1024;
const SLICES = 64;
const BITMAP_CACHE_BYTES = 4 * 1024 * 1024;
const NONE = 0xffffffff;
const SECTOR = 512;

/**
 * A Bochs image, read only. A table names the units (extents, pages) that are there; in a redolog each begins with a
 * bitmap of the sectors that were written.
 */
export class BochsImage implements MappingDriver {
  readonly family = 'mapping';
  readonly readOnly = true;
  readonly limits = limits({});
  readonly size: number;
  private readonly file: Child;
  private readonly subject: string;
  private readonly layout: BochsLayout;
  private readonly table: TableCache;
  private readonly bitmaps: TableCache;

  constructor(file: Child, layout: BochsLayout, subject: string) {
    this.file = file;
    this.layout = layout;
    this.subject = subject;
    this.size = layout.size;
    const makeClean = (): Promise<void> => Promise.resolve();
    this.table = new TableCache({ file, sliceBytes: SLICE, maxSlices: SLICES, makeClean });
    const sliceBytes = Math.max(SECTOR, layout.bitmapBytes);
    const maxSlices = Math.max(4, Math.floor(BITMAP_CACHE_BYTES / sliceBytes));
    this.bitmaps = new TableCache({ file, sliceBytes, maxSlices, makeClean });
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { unit, bitmapBytes } = this.layout;
    const index = Math.floor(offset / unit);
    const inside = offset - index * unit;
    const slice = this.table.get(this.sliceOffset(index));
    if (slice === undefined) return false;
    const length = Math.min(max, this.size - offset);
    const at = (index * 4) % SLICE;
    if (slice.bytes.readUInt32LE(at) === NONE) {
      const units = Math.min((SLICE - at) / 4, Math.ceil((inside + length) / unit));
      return out.setUnallocated(Math.min(length, countNone(slice.bytes, at, units) * unit - inside));
    }
    const place = this.place(index, slice.bytes.readUInt32LE(at));
    const inUnit = Math.min(length, unit - inside);
    if (bitmapBytes === 0) return out.setData(this.file, place + inside, inUnit, false);
    return this.tryMapSectors(place, inside, inUnit, out);
  }

  async load(): Promise<void> {
    await Promise.all([this.table.load(), this.bitmaps.load()]);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  caches(): CacheCounters[] {
    return [this.table.counters(), this.bitmaps.counters('bitmaps')];
  }

  info(): Promise<ImageInfo> {
    const { kind, unit } = this.layout;
    return Promise.resolve({
      clusterSize: unit,
      formatSpecific: { subformat: kind === 'redolog' ? 'growing' : kind },
    });
  }

  private tryMapSectors(place: number, inside: number, max: number, out: Extent): boolean {
    const bitmap = this.bitmaps.get(place);
    if (bitmap === undefined) return false;
    const first = Math.floor(inside / SECTOR);
    const last = Math.ceil((inside + max) / SECTOR);
    const present = bitAt(bitmap.bytes, first);
    let sector = first + 1;
    while (sector < last && bitAt(bitmap.bytes, sector) === present) sector += 1;
    const length = Math.min(max, sector * SECTOR - inside);
    if (!present) return out.setUnallocated(length);
    return out.setData(this.file, place + this.layout.bitmapBytes + inside, length, false);
  }

  private place(index: number, entry: number): number {
    const { dataOffset, stride } = this.layout;
    const place = dataOffset + entry * stride;
    if (place < this.file.size) return place;
    const most = Math.ceil((this.file.size - dataOffset) / stride) - 1;
    throw damaged(
      this.subject,
      `table entry ${index} is ${entry}`,
      `must be at most ${most} in a file of ${this.file.size} bytes`,
    );
  }

  private sliceOffset(index: number): number {
    const at = index * 4;
    return this.layout.tableOffset + at - (at % SLICE);
  }
}

const bitAt = (bytes: Buffer, index: number): boolean =>
  ((bytes[Math.floor(index / 8)] ?? 0) & (1 << (index % 8))) !== 0;

function countNone(bytes: Buffer, at: number, max: number): number {
  let count = 1;
  while (count < max && bytes.readUInt32LE(at + count * 4) === NONE) count += 1;
  return count;
}
