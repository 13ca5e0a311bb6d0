import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import { damaged } from '../../../src/block/refuse.ts';
import type { TableSlice } from '../../../src/block/table-cache.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { TwoLevelTables } from '../../../src/block/two-level-tables.ts';
import { eachOfTwoLevels } from '../../../src/block/table-survey.ts';
import type { Survey } from '../../../src/block/table-survey.ts';
import { readU64LE, showU64, writeU64LE } from '../../../src/util/bytes.ts';
import type { Header } from './header.ts';
import { IMAGE_SIZE_OFFSET, maxImageSize, sizeError, tableEntries } from './header.ts';
import { NeedCheckFlag } from './need-check.ts';

const ZERO_CLUSTER = 1;

export interface QedParts {
  readonly file: Child;
  readonly subject: string;
  readonly header: Header;
  readonly writable: boolean;
  readonly backing: { readonly filename: string; readonly isRaw: boolean } | undefined;
}

/** Entries that a placement is to get at commit. */
class Entries {
  readonly slice: TableSlice;
  readonly at: number;

  constructor(slice: TableSlice, at: number) {
    this.slice = slice;
    this.at = at;
  }
}

/** QED: an L2 entry is 0 (not here), 1 (zeroes) or the offset of a cluster. */
export class QedImage implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  readonly parts: QedParts;
  size: number;
  private readonly clusterSize: number;
  private readonly tables: TwoLevelTables;
  private allocator: AppendAllocator | undefined = undefined;
  private readonly flag: NeedCheckFlag;

  constructor(parts: QedParts) {
    const { file, subject, header, writable } = parts;
    this.parts = parts;
    this.size = header.image_size;
    this.clusterSize = header.cluster_size;
    this.limits = limits({ allocationUnit: header.cluster_size, sizeUnit: 512 });
    this.flag = new NeedCheckFlag(file, header);
    this.tables = new TwoLevelTables({
      file,
      subject,
      littleEndian: true,
      l1Offset: header.l1_table_offset,
      l2Entries: tableEntries(header),
      l2Alignment: header.cluster_size,
    });
    this.setWritable(writable);
  }

  get isWritable(): boolean {
    return this.allocator !== undefined;
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { clusterSize, tables } = this;
    const cluster = Math.floor(offset / clusterSize);
    const inside = offset - cluster * clusterSize;
    const length = Math.min(max, this.size - offset);
    const found = tables.locate(cluster);
    if (found === 'none') {
      return out.setUnallocated(Math.min(length, tables.runInTable(cluster) * clusterSize - inside));
    }
    const { slice, at } = tables;
    if (!found || slice === undefined) return false;
    const clusters = Math.min(tables.runInSlice, Math.ceil((inside + length) / clusterSize));
    const place = this.place(slice.bytes, at, cluster);
    const step = place > ZERO_CLUSTER ? clusterSize : 0;
    const run = Math.min(length, runLength(slice.bytes, at, clusters, step) * clusterSize - inside);
    if (place === 0) return out.setUnallocated(run);
    if (place === ZERO_CLUSTER) return out.setZero(run);
    return out.setData(this.parts.file, place + inside, run, true);
  }

  async load(): Promise<void> {
    await Promise.all([this.tables.load(), this.allocator?.load(), this.flag.load()]);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { clusterSize, tables, allocator } = this;
    const cluster = Math.floor(offset / clusterSize);
    const slice = this.tryChange(cluster);
    if (slice === undefined || allocator === undefined) return false;
    const { at } = tables;
    const last = Math.floor((offset + length - 1) / clusterSize);
    const wanted = countWithoutPlace(slice.bytes, at, Math.min(tables.runInSlice, last - cluster + 1));
    if (!allocator.tryTake(wanted * clusterSize, out)) return false;
    out.start = cluster * clusterSize;
    out.token = new Entries(slice, at);
    slice.pins += 1;
    return true;
  }

  commit(place: Placement): void {
    const { token } = place;
    if (!(token instanceof Entries)) return;
    const { slice, at } = token;
    const count = place.length / this.clusterSize;
    for (let index = 0; index < count; index += 1) {
      writeU64LE(slice.bytes, place.offset + index * this.clusterSize, at + index * 8);
    }
    slice.pins -= 1;
    this.tables.markDirty(slice, at, count * 8);
  }

  abort(place: Placement): void {
    if (place.token instanceof Entries) place.token.slice.pins -= 1;
    this.allocator?.giveBack(place.offset, place.length);
  }

  /** Whole clusters without a place become zero clusters; a cluster with one keeps it and is overwritten. */
  tryZero(offset: number, length: number): number | false {
    const { clusterSize, tables } = this;
    const cluster = Math.floor(offset / clusterSize);
    const inside = offset - cluster * clusterSize;
    const end = Math.min(offset + length, this.size);
    const whole = end === this.size ? Math.ceil(end / clusterSize) : Math.floor(end / clusterSize);
    if (inside > 0 || whole <= cluster) return 0;
    const slice = this.tryChange(cluster);
    if (slice === undefined) return false;
    const { at } = tables;
    const count = countWithoutPlace(slice.bytes, at, Math.min(tables.runInSlice, whole - cluster), 0);
    for (let index = 0; index < count; index += 1) writeU64LE(slice.bytes, ZERO_CLUSTER, at + index * 8);
    if (count > 0) tables.markDirty(slice, at, count * 8);
    return Math.min(count * clusterSize, end - offset);
  }

  /** Grows only. */
  async resize(size: number): Promise<void> {
    const { file, header, subject } = this.parts;
    if (size === this.size) return;
    if (size < this.size)
      throw new BlockError('ENOTSUP', `Cannot resize "${subject}": QED images do not shrink`);
    if (size % 512 !== 0 || size > maxImageSize(header)) throw sizeError(subject, size, header);
    await this.zeroTail();
    await this.flush();
    const field = Buffer.alloc(8);
    writeU64LE(field, size, 0);
    await file.write(field, IMAGE_SIZE_OFFSET);
    this.size = size;
  }

  async flush(): Promise<void> {
    await this.tables.writeBack();
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
    if (this.flag.isSet && this.allocator === undefined) {
      const why = 'it was not closed cleanly and is to be checked first; close it and open it for writing';
      throw new BlockError('EBUSY', `Cannot reopen "${this.parts.subject}" for writing: ${why}`);
    }
    return {
      commit: () => {
        if (this.allocator === undefined) this.setWritable(true);
      },
      abort: () => {},
    };
  }

  /** Writes back and forgets all tables: the file is then what counts. */
  async settle(): Promise<void> {
    await this.flush();
    this.tables.forget();
  }

  caches(): CacheCounters[] {
    return this.tables.caches();
  }

  info(): Promise<ImageInfo> {
    const { backing, header } = this.parts;
    const formatSpecific = { 'table-size': header.table_size, 'needs-check': this.flag.isSet };
    const info = { clusterSize: this.clusterSize, dirty: this.flag.isSet, formatSpecific };
    if (backing === undefined) return Promise.resolve(info);
    const named = { ...info, backingFilename: backing.filename };
    return Promise.resolve(backing.isRaw ? { ...named, backingFormat: 'raw' } : named);
  }

  private setWritable(writable: boolean): void {
    this.allocator = writable ? new AppendAllocator(surveyOf(this.parts), 0, this.clusterSize) : undefined;
    this.tables.allocator = this.allocator;
  }

  private async finishWriting(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.allocator?.trim();
    }
    await this.flag.clear();
  }

  /** The slice of a cluster's entry, ready to be changed; undefined to load. The image is marked before any change. */
  private tryChange(cluster: number): TableSlice | undefined {
    const { tables } = this;
    if (this.allocator === undefined) {
      throw new BlockError('EROFS', `Cannot write to "${this.parts.subject}": it is read-only`);
    }
    if (!tables.hasRoom || !this.flag.tryNeed()) return undefined;
    let found = tables.locate(cluster);
    if (found === 'none') found = tables.tryMakeTable(cluster) && tables.locate(cluster) === true;
    return found ? tables.slice : undefined;
  }

  /** The rest of the last cluster becomes part of the disk: it must be zeroes. */
  private async zeroTail(): Promise<void> {
    const inside = this.size % this.clusterSize;
    if (inside === 0) return;
    const cluster = Math.floor(this.size / this.clusterSize);
    while (this.tables.locate(cluster) === false) await this.tables.load();
    if (this.tables.locate(cluster) !== true || this.tables.slice === undefined) return;
    const place = this.place(this.tables.slice.bytes, this.tables.at, cluster);
    if (place > ZERO_CLUSTER) await this.parts.file.writeZeroes(place + inside, this.clusterSize - inside);
  }

  private place(bytes: Buffer, at: number, cluster: number): number {
    const place = readU64LE(bytes, at);
    const { file, header, subject } = this.parts;
    if (place <= ZERO_CLUSTER) return place;
    const first = header.header_size * this.clusterSize;
    if (place % this.clusterSize === 0 && place >= first && place < file.size) return place;
    const wanted = `must be a multiple of ${this.clusterSize} from ${first} to ${file.size}`;
    throw damaged(subject, `L2 entry of cluster ${cluster} is ${showU64(bytes, at, true)}`, wanted);
  }
}

function surveyOf({ file, header, subject }: QedParts): Survey {
  const { cluster_size: cluster, l1_table_offset: l1Offset } = header;
  const table = header.table_size * cluster;
  const shape = { file, subject, l1Offset, l1Entries: table / 8, l2Entries: table / 8 };
  const place = (bytes: Buffer, at: number): number => {
    const offset = readU64LE(bytes, at);
    return offset === ZERO_CLUSTER ? 0 : offset;
  };
  return { file, subject, each: (visit) => eachOfTwoLevels(shape, place, { table, cluster }, visit) };
}

/** Entries from `at` on that go on as the first one began, `step` bytes further each. */
function runLength(bytes: Buffer, at: number, max: number, step: number): number {
  const first = readU64LE(bytes, at);
  let count = 1;
  while (count < max && readU64LE(bytes, at + count * 8) === first + count * step) count += 1;
  return count;
}

/** Entries from `at` on, `least` of them unseen, that name no cluster. */
function countWithoutPlace(bytes: Buffer, at: number, max: number, least = 1): number {
  let count = least;
  while (count < max && readU64LE(bytes, at + count * 8) <= ZERO_CLUSTER) count += 1;
  return count;
}
