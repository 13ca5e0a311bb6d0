import { promisify } from 'node:util';
import { inflateRaw, inflateRawSync } from 'node:zlib';
import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { AppendAllocator } from '../../../src/block/append-allocator.ts';
import type { Child } from '../../../src/block/child.ts';
import { DecompressedCache, readBlocks, tryReadBlocks } from '../../../src/block/decompressed-cache.ts';
import type { DataCodec, ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
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
import { readU64BE, showU64, writeU64BE } from '../../../src/util/bytes.ts';
import type { Encryption } from './encryption.ts';
import type { Geometry } from './header.ts';
import { planGrowth, writeGrowth, writeLongerL1 } from './resize.ts';

const inflate = promisify(inflateRaw);
/** Up to this size unpacking takes less time than a hop to the thread pool. */
const SMALL_CLUSTER = 4096;
/** An output chunk that is filled to its end makes zlib allocate another one for nothing. */
const SPARE = 64;
const COMPRESSED_BIT = 0x80000000;

export interface QcowParts {
  readonly file: Child;
  readonly subject: string;
  readonly geometry: Geometry;
  readonly writable: boolean;
  readonly backingFilename: string | undefined;
  readonly encryption: Encryption | undefined;
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

/**
 * qcow version 1. An L2 entry is 0 (not here), the offset of a cluster, or with bit 63 set a compressed one:
 *
 *     63 | 62 .. 63-cluster_bits: length of the raw deflate stream | offset in the file
 */
export class QcowImage implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  readonly codec: DataCodec | undefined;
  size: number;
  private parts: QcowParts;
  private readonly clusterSize: number;
  private tables: TwoLevelTables;
  private allocator: AppendAllocator | undefined = undefined;
  private readonly cache = new DecompressedCache();

  constructor(parts: QcowParts) {
    const { geometry, writable } = parts;
    this.parts = parts;
    this.size = geometry.size;
    this.clusterSize = geometry.clusterSize;
    this.codec = parts.encryption?.codec;
    const unit = this.codec?.unit ?? 1;
    this.limits = limits({
      allocationUnit: geometry.clusterSize,
      requestAlignment: unit,
      zeroesAlignment: unit,
      sizeUnit: 512,
    });
    this.tables = tablesOf(parts);
    this.setWritable(writable);
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
    const run = Math.min(length, this.run(slice.bytes, at, clusters) * clusterSize - inside);
    if (slice.bytes.readUInt32BE(at) >= COMPRESSED_BIT) return out.setOpaque(run, true);
    const place = this.place(slice.bytes, at, cluster);
    if (place === 0) return out.setUnallocated(run);
    return out.setData(this.parts.file, place + inside, run, true);
  }

  async load(): Promise<void> {
    await Promise.all([this.tables.load(), this.allocator?.load()]);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { clusterSize, tables, allocator } = this;
    if (allocator === undefined)
      throw new BlockError('EROFS', `Cannot write to "${this.parts.subject}": it is read-only`);
    if (!tables.hasRoom) return false;
    const cluster = Math.floor(offset / clusterSize);
    let found = tables.locate(cluster);
    if (found === 'none') found = tables.tryMakeTable(cluster) && tables.locate(cluster) === true;
    const { slice, at } = tables;
    if (!found || slice === undefined) return false;
    const last = Math.floor((offset + length - 1) / clusterSize);
    const wanted = this.runWithoutPlace(slice.bytes, at, Math.min(tables.runInSlice, last - cluster + 1));
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
      writeU64BE(slice.bytes, place.offset + index * this.clusterSize, at + index * 8);
    }
    slice.pins -= 1;
    this.tables.markDirty(slice, at, count * 8);
  }

  abort(place: Placement): void {
    if (place.token instanceof Entries) place.token.slice.pins -= 1;
    this.allocator?.giveBack(place.offset, place.length);
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    await readBlocks(bytes, offset, this.clusterSize, (cluster) => this.decompressed(cluster));
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return tryReadBlocks({ bytes, at, length }, offset, this.clusterSize, (cluster) => {
      if (this.tables.locate(cluster) !== true || this.tables.slice === undefined) return undefined;
      return this.cache.get(this.compressedPlace(this.tables.slice.bytes, this.tables.at).offset);
    });
  }

  /** Grows only: a longer L1 table at the end of the file, then the header, which names it and the size. */
  async resize(size: number): Promise<void> {
    const { file, geometry, subject } = this.parts;
    const grown = planGrowth(geometry, size, subject);
    await this.finishWriting();
    await this.zeroTail();
    if (grown.l1Entries > geometry.l1Entries)
      grown.l1Offset = await writeLongerL1(surveyOf(this.parts), geometry, grown.l1Entries);
    await file.flush();
    // When the header fails nobody knows which table counts: until it has been written nothing may be.
    this.setWritable(false);
    await writeGrowth(file, grown);
    this.parts = { ...this.parts, geometry: grown };
    this.tables = tablesOf(this.parts);
    this.size = size;
    this.setWritable(true);
  }

  /** The rest of the last cluster becomes part of the disk. */
  private async zeroTail(): Promise<void> {
    const { clusterSize, tables } = this;
    const inside = this.size % clusterSize;
    const cluster = Math.floor(this.size / clusterSize);
    if (inside === 0) return;
    while (tables.locate(cluster) === false) await tables.load();
    if (tables.locate(cluster) !== true || tables.slice === undefined) return;
    if (tables.slice.bytes.readUInt32BE(tables.at) >= COMPRESSED_BIT) return;
    const place = this.place(tables.slice.bytes, tables.at, cluster);
    if (place === 0) return;
    if (this.codec === undefined) {
      await this.parts.file.writeZeroes(place + inside, clusterSize - inside);
      return;
    }
    const zeroes = Buffer.alloc(clusterSize - inside);
    this.codec.encode(zeroes, 0, zeroes.length, this.size, place + inside);
    await this.parts.file.write(zeroes, place + inside);
  }

  async flush(): Promise<void> {
    await this.tables.writeBack();
    await this.parts.file.flush();
  }

  async close(): Promise<void> {
    try {
      if (this.allocator !== undefined) await this.finishWriting();
    } finally {
      this.parts.encryption?.wipe();
    }
  }

  /** To read-only: all is written back first. To writable: space is given out behind what is there. */
  async reopen(common: CommonOptions): Promise<PermissionChange> {
    if (common.readOnly) {
      if (this.allocator !== undefined) await this.finishWriting();
      return { commit: () => this.setWritable(false), abort: () => {} };
    }
    return {
      commit: () => {
        if (this.allocator === undefined) this.setWritable(true);
      },
      abort: () => {},
    };
  }

  caches(): CacheCounters[] {
    return [...this.tables.caches(), this.cache.counters()];
  }

  info(): Promise<ImageInfo> {
    const { backingFilename } = this.parts;
    const formatSpecific = {
      'l2-entries': this.parts.geometry.l2Entries,
      ...(this.codec === undefined ? {} : { encrypt: { format: 'aes' } }),
    };
    const info = { clusterSize: this.clusterSize, encrypted: this.codec !== undefined, formatSpecific };
    return Promise.resolve(backingFilename === undefined ? info : { ...info, backingFilename });
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
  }

  /** Clusters from `at` on that are of one kind, and for data one behind the other. */
  private run(bytes: Buffer, at: number, max: number): number {
    const high = bytes.readUInt32BE(at);
    const isCompressed = high >= COMPRESSED_BIT;
    const first = readU64BE(bytes, at);
    const step = first === 0 ? 0 : this.clusterSize;
    let count = 1;
    for (let next = at + 8; count < max; next += 8, count += 1) {
      if (
        isCompressed
          ? bytes.readUInt32BE(next) < COMPRESSED_BIT
          : readU64BE(bytes, next) !== first + count * step
      )
        break;
    }
    return count;
  }

  private runWithoutPlace(bytes: Buffer, at: number, max: number): number {
    let count = 1;
    for (let next = at + 8; count < max; next += 8, count += 1) {
      if (bytes.readUInt32BE(next) < COMPRESSED_BIT && readU64BE(bytes, next) !== 0) break;
    }
    return count;
  }

  private place(bytes: Buffer, at: number, cluster: number): number {
    const place = readU64BE(bytes, at);
    if (place % 512 === 0 && place < this.parts.file.size) return place;
    const is = `L2 entry of cluster ${cluster} is ${showU64(bytes, at, false)}`;
    throw damaged(this.parts.subject, is, `must be a multiple of 512 below ${this.parts.file.size}`);
  }

  private compressedPlace(bytes: Buffer, at: number): { offset: number; length: number } {
    const entry = bytes.readBigUInt64BE(at);
    const offsetBits = BigInt(63 - this.parts.geometry.clusterBits);
    const length = Number((entry >> offsetBits) & BigInt(this.clusterSize - 1));
    return { offset: Number(entry & ((1n << offsetBits) - 1n)), length };
  }

  private async decompressed(cluster: number): Promise<Buffer> {
    while (this.tables.locate(cluster) === false) await this.tables.load();
    const { slice, at } = this.tables;
    if (slice === undefined) return Buffer.alloc(0);
    const { offset, length } = this.compressedPlace(slice.bytes, at);
    return this.cache.fetch(offset, () => this.inflate(cluster, offset, length));
  }

  private async unpack(packed: Buffer): Promise<Buffer> {
    const { clusterSize } = this;
    const options = { maxOutputLength: clusterSize, chunkSize: clusterSize + SPARE };
    return clusterSize <= SMALL_CLUSTER ? inflateRawSync(packed, options) : inflate(packed, options);
  }

  private async inflate(cluster: number, offset: number, length: number): Promise<Buffer> {
    const { file, subject } = this.parts;
    if (length === 0 || offset + length > file.size) {
      const is = `compressed cluster ${cluster} has ${length} bytes at ${offset}`;
      throw damaged(subject, is, `must lie inside the file (${file.size} bytes)`);
    }
    const packed = Buffer.allocUnsafe(length);
    await file.read(packed, offset);
    const plain = await this.unpack(packed).catch((error: unknown) => {
      throw damaged(
        subject,
        `compressed cluster ${cluster} at ${offset}: ${String(error)}`,
        'must be a deflate stream',
      );
    });
    if (plain.length === this.clusterSize) return plain;
    const is = `compressed cluster ${cluster} at ${offset} unpacks to ${plain.length} bytes`;
    throw damaged(subject, is, `must be ${this.clusterSize}`);
  }
}

function surveyOf({ file, subject, geometry }: QcowParts): Survey {
  const { clusterSize: cluster, clusterBits, l2Entries } = geometry;
  const high = 2 ** (31 - clusterBits);
  const place = (bytes: Buffer, at: number, isTable: boolean): number =>
    isTable || bytes.readUInt32BE(at) < COMPRESSED_BIT
      ? readU64BE(bytes, at)
      : (bytes.readUInt32BE(at) % high) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  const lengths = { table: l2Entries * 8, cluster };
  return {
    file,
    subject,
    each: (visit) => eachOfTwoLevels({ file, subject, ...geometry }, place, lengths, visit),
  };
}

function tablesOf({ file, subject, geometry }: QcowParts): TwoLevelTables {
  return new TwoLevelTables({
    file,
    subject,
    littleEndian: false,
    l1Offset: geometry.l1Offset,
    l2Entries: geometry.l2Entries,
    l2Alignment: 8,
  });
}
