import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import type { TableSlice } from '../../../src/block/table-cache.ts';
import { Bat } from './bat.ts';
import type { Geometry, Header } from './header.ts';
import { surveyBat } from './check.ts';
import { HEADER_LENGTH, MAGIC_V2, SECTOR } from './header.ts';
import { InUseMark } from './in-use.ts';
import { clustersBelow, copyCluster, cylindersFor, planGrowth, writeHeader } from './resize.ts';

export interface ParallelsParts {
  readonly file: Child;
  readonly subject: string;
  readonly header: Header;
  readonly geometry: Geometry;
  readonly writable: boolean;
}

/** BAT entries that a placement is to get at commit. */
class Entries {
  readonly slice: TableSlice;
  readonly at: number;

  constructor(slice: TableSlice, at: number) {
    this.slice = slice;
    this.at = at;
  }
}

/** An expandable Parallels image: one table, clusters of any number of sectors. */
export class ParallelsImage implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  size: number;
  parts: ParallelsParts;
  private readonly clusterSize: number;
  private bat: Bat;
  private allocator: AppendAllocator | undefined = undefined;
  private readonly mark: InUseMark;

  constructor(parts: ParallelsParts) {
    const { file, subject, header, geometry, writable } = parts;
    this.parts = parts;
    this.size = geometry.size;
    this.clusterSize = geometry.clusterSize;
    this.limits = limits({ allocationUnit: geometry.clusterSize, sizeUnit: SECTOR });
    this.bat = new Bat(file, subject, geometry);
    this.mark = new InUseMark(file, header);
    this.setWritable(writable);
  }

  get isWritable(): boolean {
    return this.allocator !== undefined;
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { clusterSize, bat } = this;
    const cluster = Math.floor(offset / clusterSize);
    if (!bat.locate(cluster)) return false;
    const inside = offset - cluster * clusterSize;
    const length = Math.min(max, this.size - offset);
    const place = bat.place(cluster);
    const run = Math.min(length, bat.run(Math.ceil((inside + length) / clusterSize)) * clusterSize - inside);
    if (place === 0) return out.setUnallocated(run);
    return out.setData(this.parts.file, place + inside, run, true);
  }

  async load(): Promise<void> {
    await Promise.all([this.bat.load(), this.allocator?.load(), this.mark.load()]);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { clusterSize, bat, allocator } = this;
    if (allocator === undefined)
      throw new BlockError('EROFS', `Cannot write to "${this.parts.subject}": it is read-only`);
    const cluster = Math.floor(offset / clusterSize);
    if (!bat.hasRoom || !this.mark.tryNeed() || !bat.locate(cluster) || bat.slice === undefined) return false;
    const last = Math.floor((offset + length - 1) / clusterSize);
    if (!allocator.tryTake(bat.run(last - cluster + 1) * clusterSize, out)) return false;
    this.checkReach(out);
    out.start = cluster * clusterSize;
    out.token = new Entries(bat.slice, bat.at);
    bat.slice.pins += 1;
    return true;
  }

  commit(place: Placement): void {
    if (!(place.token instanceof Entries)) return;
    const { slice, at } = place.token;
    slice.pins -= 1;
    this.bat.set(slice, at, place.offset, place.length / this.clusterSize);
  }

  abort(place: Placement): void {
    if (place.token instanceof Entries) place.token.slice.pins -= 1;
    this.allocator?.giveBack(place.offset, place.length);
  }

  async flush(): Promise<void> {
    await this.bat.writeBack();
    await this.parts.file.flush();
  }

  async close(): Promise<void> {
    if (this.allocator !== undefined) await this.finishWriting();
  }

  /** To read-only: all is written back first. To writable: space is given out behind what is there, unless a check is due. */
  async reopen(common: CommonOptions): Promise<PermissionChange> {
    if (common.readOnly) {
      if (this.allocator !== undefined) await this.finishWriting();
      return { commit: () => this.setWritable(false), abort: () => {} };
    }
    if ((this.mark.isSet || this.parts.header.ext_off !== 0) && this.allocator === undefined) {
      const why = 'it is to be checked or has an extension; close it and open it for writing';
      throw new BlockError('EBUSY', `Cannot reopen "${this.parts.subject}" for writing: ${why}`);
    }
    return {
      commit: () => {
        if (this.allocator === undefined) this.setWritable(true);
      },
      abort: () => {},
    };
  }

  /** Grows only. */
  async resize(size: number): Promise<void> {
    const { file, subject, header, geometry } = this.parts;
    const { entries, dataOffset } = planGrowth(header, geometry, size, subject);
    while (!this.mark.tryNeed()) await this.mark.load();
    await this.flush();
    await this.clearBehind();
    if (dataOffset > geometry.dataOffset) await this.makeRoom(dataOffset);
    await file.writeZeroes(HEADER_LENGTH + geometry.batEntries * 4, (entries - geometry.batEntries) * 4);
    await file.flush();
    const next = {
      ...header,
      nb_bat_entries: entries,
      nb_sectors: size / SECTOR,
      data_off: dataOffset / SECTOR,
      cylinders: cylindersFor(size, header.heads),
    };
    // When the header fails nobody knows where its BAT ends: until it has been written nothing may be allocated.
    const { allocator } = this;
    this.allocator = undefined;
    await writeHeader(file, next);
    this.allocator = allocator;
    const grown = { ...geometry, size, batEntries: entries, dataOffset };
    this.parts = { ...this.parts, header: next, geometry: grown };
    this.bat = new Bat(file, subject, grown);
    this.size = size;
  }

  /** Clusters below `end` move behind everything else. */
  private async makeRoom(end: number): Promise<void> {
    const { bat, clusterSize, allocator } = this;
    const { file, geometry } = this.parts;
    const moved: { cluster: number; place: number }[] = [];
    for (const { cluster, place: from } of await clustersBelow(bat, geometry, end)) {
      let place = allocator?.tryTakeFresh(clusterSize) ?? -1;
      while (place >= 0 && place < end) place = allocator?.tryTakeFresh(clusterSize) ?? -1;
      while (place < 0) {
        await allocator?.load();
        place = allocator?.tryTakeFresh(clusterSize) ?? -1;
      }
      await copyCluster(file, from, place, clusterSize);
      moved.push({ cluster, place });
    }
    await file.flush();
    for (const { cluster, place } of moved) {
      while (!bat.locate(cluster)) await bat.load();
      if (bat.slice !== undefined) bat.set(bat.slice, bat.at, place, 1);
    }
    await this.flush();
    await file.writeZeroes(geometry.dataOffset, end - geometry.dataOffset);
  }

  /** What becomes part of the disk reads as zeroes, whatever clusters have there. */
  private async clearBehind(): Promise<void> {
    const { bat, clusterSize } = this;
    const { file, geometry } = this.parts;
    const last = Math.floor(this.size / clusterSize);
    for (let cluster = last; cluster < geometry.batEntries; cluster += 1) {
      while (!bat.locate(cluster)) await bat.load();
      const place = bat.place(cluster);
      const from = cluster === last ? this.size % clusterSize : 0;
      if (place !== 0) await file.writeZeroes(place + from, clusterSize - from);
    }
  }

  /** Writes back and forgets the BAT: the file is then what counts. */
  async settle(): Promise<void> {
    await this.flush();
    this.bat.forget();
  }

  caches(): CacheCounters[] {
    return [this.bat.counters()];
  }

  info(): Promise<ImageInfo> {
    const { header, geometry } = this.parts;
    return Promise.resolve({
      clusterSize: this.clusterSize,
      dirty: this.mark.isSet,
      formatSpecific: {
        version: header.magic === MAGIC_V2 ? 2 : 1,
        'in-use': this.mark.isSet,
        'data-offset': geometry.dataOffset,
        'format-extension': header.ext_off !== 0,
      },
    });
  }

  private setWritable(writable: boolean): void {
    const { file, geometry, subject } = this.parts;
    this.allocator = writable
      ? new AppendAllocator(surveyBat(file, geometry, subject), geometry.dataOffset, geometry.clusterSize)
      : undefined;
  }

  private async finishWriting(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.allocator?.trim();
    }
    await this.mark.clear();
  }

  /** An entry has 32 bits: in version 1 it counts sectors, so a file has an end at 2 TiB. */
  private checkReach(place: Placement): void {
    const max = 2 ** 32 * this.parts.geometry.entryUnit;
    if (place.offset + place.length <= max) return;
    this.allocator?.giveBack(place.offset, place.length);
    throw new BlockError(
      'ENOSPC',
      `Cannot write to "${this.parts.subject}": its file is at ${place.offset}, at most ${max}`,
    );
  }
}
