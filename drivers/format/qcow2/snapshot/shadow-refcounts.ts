/**
 * A second set of refcounts beside the one in force. Whoever wants to change much of the metadata at once counts here;
 * nothing that the header names is touched, so giving up, or a crash, leaves the image as it was:
 *
 *     in force    table --> block 0, block 1, block 2
 *     shadow      table' -> block 0, block 1', block 2      only blocks with changes are copied
 *
 * `finish` writes the shadow table; a header that names it makes it the one in force (switch.ts). A refcount never goes to
 * 0 here: a cluster without users stays counted once, is not given out again, and is listed in `frees`.
 */
import { BlockError } from '../../../../src/block/errors.ts';
import { alignUp } from '../../../../src/util/sizes.ts';
import type { FreeReason } from '../frees.ts';
import type { Image } from '../image.ts';
import type { MetadataClusters } from '../metadata-clusters.ts';
import { readRefcount, refcountMax, writeRefcount } from '../refcount-entry.ts';
import type { Refcounts } from '../refcounts.ts';
import type { CachedTable } from '../table-cache.ts';
import { TableStore } from '../table-store.ts';
import { writeU64 } from '../u64.ts';

const TABLE_MAX = 8 * 1024 * 1024;
const CACHE_BYTES = 8 * 1024 * 1024;
const PAGES_PER_TURN = 512;

export interface FreedRun {
  readonly first: number;
  count: number;
  readonly reason: FreeReason;
}

export interface ShadowParts {
  readonly refcounts: Refcounts;
  readonly metadata: MetadataClusters;
  /** A cluster below which none is free. */
  readonly from: number;
  /** What is being done, for messages: `create a snapshot`. */
  readonly action: string;
}

export class ShadowRefcounts {
  /** Clusters that nobody uses once the shadow is in force. */
  readonly frees: FreedRun[] = [];
  /** Byte offset behind everything that was written. */
  end = 0;
  private readonly image: Image;
  private readonly action: string;
  private readonly refcounts: Refcounts;
  private readonly metadata: MetadataClusters;
  private readonly pages: TableStore;
  /** Places of blocks that are the shadow's own, by number. */
  private readonly blocks = new Map<number, number>();
  private blocksEnd = 0;
  /** The search for free clusters goes on here; it never looks back. */
  private next: number;
  /** A run that was found and is being counted: not to be given out. */
  private held = { first: 0, end: 0 };

  constructor(image: Image, parts: ShadowParts) {
    this.image = image;
    this.refcounts = parts.refcounts;
    this.metadata = parts.metadata;
    this.next = parts.from;
    this.action = parts.action;
    const { pageSize, pagesPerBlock } = image.geometry;
    this.pages = new TableStore({
      file: image.file,
      need: image.need,
      tableSize: pageSize,
      capacity: Math.max(64, CACHE_BYTES / pageSize),
      makeRoom: () => this.writeBack(),
      place: (key) => this.blockOffset(Math.floor(key / pagesPerBlock)) + (key % pagesPerBlock) * pageSize,
    });
  }

  /** Counts a cluster once more; false (then `add`) when it can't be done in this turn. */
  tryAdd(cluster: number): boolean {
    const count = this.tryRead(cluster);
    if (count < 0 || !this.blocks.has(this.blockOf(cluster))) return false;
    if (!(count > 0)) this.image.corrupt(`cluster ${cluster} is in use but its refcount is ${count}`);
    if (count >= refcountMax(this.image.geometry.refcountBits)) this.refuseOverflow(cluster, count);
    return this.trySet(cluster, count + 1);
  }

  async add(cluster: number): Promise<void> {
    await this.own(this.blockOf(cluster));
    while (!this.tryAdd(cluster)) await this.image.need.load();
  }

  /** One user less; false (then `drop`) when it can't be done in this turn. */
  tryDrop(cluster: number, reason: FreeReason): boolean {
    const count = this.tryRead(cluster);
    if (count < 0) return false;
    if (!(count > 0)) this.image.corrupt(`cluster ${cluster} is in use but its refcount is ${count}`);
    if (count > 1) return this.blocks.has(this.blockOf(cluster)) && this.trySet(cluster, count - 1);
    this.free(cluster, reason);
    return true;
  }

  async drop(cluster: number, reason: FreeReason): Promise<void> {
    if ((await this.read(cluster)) > 1) await this.own(this.blockOf(cluster));
    while (!this.tryDrop(cluster, reason)) await this.image.need.load();
  }

  /** `drop` for every cluster of a table. */
  async dropTable(offset: number, length: number, reason: FreeReason): Promise<void> {
    const { clusterSize } = this.image.geometry;
    for (let at = offset; at < offset + length; at += clusterSize) await this.drop(at / clusterSize, reason);
  }

  /** The refcount, or -1 to load. */
  tryRead(cluster: number): number {
    if (this.blockOffset(this.blockOf(cluster)) === 0) return 0;
    const page = this.tryPage(cluster);
    if (page === undefined) return -1;
    const { pageEntries, refcountBits } = this.image.geometry;
    return readRefcount(page.bytes, cluster % pageEntries, refcountBits);
  }

  async read(cluster: number): Promise<number> {
    for (;;) {
      const count = this.tryRead(cluster);
      if (!(count < 0)) return count;
      await this.image.need.load();
    }
  }

  /** Takes a free cluster; its byte offset. */
  async take(): Promise<number> {
    const cluster = await this.findFree();
    await this.count(cluster);
    return cluster * this.image.geometry.clusterSize;
  }

  /** Takes clusters in a row that hold `length` bytes (at least one); the first one's byte offset. */
  async takeTable(length: number): Promise<number> {
    const { clusterSize } = this.image.geometry;
    const count = Math.max(1, Math.ceil(length / clusterSize));
    if (count === 1) return this.take();
    const from = this.next;
    let first = await this.findFree();
    for (let end = first + 1; end - first < count; end += 1) {
      const cluster = await this.findFree();
      if (cluster !== end) first = end = cluster;
    }
    this.held = { first, end: first + count };
    this.next = from;
    for (let cluster = first; cluster < first + count; cluster += 1) await this.count(cluster);
    this.held = { first: 0, end: 0 };
    return first * clusterSize;
  }

  /** Writes whole clusters at a place that was taken. */
  async write(bytes: Buffer, offset: number): Promise<void> {
    const { clusterSize } = this.image.geometry;
    const whole = Buffer.alloc(alignUp(bytes.length, clusterSize));
    bytes.copy(whole);
    this.end = Math.max(this.end, offset + whole.length);
    await this.image.file.write(whole, offset);
  }

  /** Everything counted, on disk but for a flush: the table that the header is to name. Nothing may be counted after it. */
  async finish(): Promise<{ bytes: Buffer; offset: number }> {
    const { clusterSize } = this.image.geometry;
    const { table } = this.refcounts;
    for (let length = table.byteLength; ;) {
      const offset = await this.takeTable(length);
      if (this.tableLength <= length) {
        const bytes = this.tableBytes(length);
        await this.write(bytes, offset);
        this.freeOld();
        await this.writeBack();
        return { bytes, offset };
      }
      for (let at = 0; at < length; at += clusterSize) await this.uncount((offset + at) / clusterSize);
      length = alignUp(this.tableLength, clusterSize);
    }
  }

  private blockOf(cluster: number): number {
    return Math.floor(cluster / this.image.geometry.blockEntries);
  }

  private blockOffset(block: number): number {
    return this.blocks.get(block) ?? this.refcounts.table.blockOffset(block);
  }

  private tryPage(cluster: number): CachedTable | undefined {
    return this.pages.tryGet(Math.floor(cluster / this.image.geometry.pageEntries));
  }

  private trySet(cluster: number, value: number): boolean {
    const page = this.tryPage(cluster);
    if (page === undefined) return false;
    const { pageEntries, refcountBits } = this.image.geometry;
    this.pages.cache.change(page);
    writeRefcount(page.bytes, cluster % pageEntries, refcountBits, value);
    return true;
  }

  private free(cluster: number, reason: FreeReason): void {
    const last = this.frees.at(-1);
    if (last !== undefined && last.first + last.count === cluster && last.reason === reason) last.count += 1;
    else this.frees.push({ first: cluster, count: 1, reason });
  }

  /** The blocks and the table that the shadow replaces. */
  private freeOld(): void {
    const { clusterSize } = this.image.geometry;
    const { table } = this.refcounts;
    for (const block of this.blocks.keys()) {
      const old = table.blockOffset(block);
      if (old !== 0) this.free(old / clusterSize, 'other');
    }
    for (let at = 0; at < table.byteLength; at += clusterSize)
      this.free((table.offset + at) / clusterSize, 'other');
  }

  /** A cluster that was free is in use. */
  private async count(cluster: number): Promise<void> {
    await this.own(this.blockOf(cluster));
    while (!this.trySet(cluster, 1)) await this.image.need.load();
  }

  private async uncount(cluster: number): Promise<void> {
    while (!this.trySet(cluster, 0)) await this.image.need.load();
  }

  /** Makes the block the shadow's own: a copy, or an empty one where there was none. */
  private async own(block: number): Promise<void> {
    if (this.blocks.has(block)) return;
    const { clusterSize } = this.image.geometry;
    const cluster = await this.findFree();
    const bytes = Buffer.alloc(clusterSize);
    const old = this.refcounts.table.blockOffset(block);
    if (old !== 0) await this.image.file.read(bytes, old);
    await this.write(bytes, cluster * clusterSize);
    this.blocks.set(block, cluster * clusterSize);
    this.blocksEnd = Math.max(this.blocksEnd, block + 1);
    await this.count(cluster);
  }

  private async findFree(): Promise<number> {
    for (;;) {
      const cluster = this.tryFindFree();
      if (cluster !== false) {
        this.metadata.refuse(cluster);
        return cluster;
      }
      await this.image.need.load();
    }
  }

  private tryFindFree(): number | false {
    const { clusterSize } = this.image.geometry;
    const limit = this.next + PAGES_PER_TURN * this.image.geometry.pageEntries;
    while (this.next < limit) {
      if (this.next === this.held.first) this.next = this.held.end;
      const count = this.tryRead(this.next);
      if (count < 0) return false;
      this.next += 1;
      if (this.next * clusterSize >= 2 ** 53) this.image.corrupt('no free cluster below offset 2^53');
      if (count === 0) return this.next - 1;
    }
    return this.image.need.want(() => new Promise((resolve) => setImmediate(resolve)));
  }

  /** Bytes that the table needs at least. */
  private get tableLength(): number {
    return Math.max(this.refcounts.table.length, this.blocksEnd) * 8;
  }

  private tableBytes(length: number): Buffer {
    const { clusterSize } = this.image.geometry;
    if (length > Math.max(TABLE_MAX, clusterSize)) {
      const what = `the refcount table would take ${length} bytes, must be at most ${TABLE_MAX}`;
      throw new BlockError('EFBIG', `Cannot ${this.action} of image "${this.image.subject}": ${what}`);
    }
    const bytes = this.refcounts.table.grown(length);
    for (const [block, offset] of this.blocks) writeU64(bytes, offset, block * 8);
    return bytes;
  }

  private async writeBack(): Promise<void> {
    const batch = this.pages.cache.takeDirty();
    await this.pages.writeAll(batch);
    this.pages.cache.settle(batch, true);
  }

  private refuseOverflow(cluster: number, count: number): never {
    const { subject, geometry } = this.image;
    const what = `cluster ${cluster} has ${count} users already, the most that refcounts of ${geometry.refcountBits} bits count`;
    throw new BlockError('EOVERFLOW', `Cannot ${this.action} of image "${subject}": ${what}`);
  }
}
