/**
 * An open dynamic or differencing VHD.
 *
 *     [footer copy][dynamic header][locators][table][bitmap, data][bitmap, data] ... [room for blocks][footer]
 *                                                                               end              footerAt
 *
 * New blocks go where the footer stands. It is moved first: a new footer, flushed, some blocks further on; then the old
 * one is wiped and the room between is given out. Close puts the footer behind the last block again. So the end of the
 * file holds a good footer at all times.
 *
 * On write-back: data (and bitmaps that no table names yet), flush; then the table and changed bitmaps, flush. A
 * discarded block's place is used again only after that.
 */
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { ZeroFlag } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { requireShrink } from '../../../src/block/refuse.ts';
import { Places } from '../../../src/block/places.ts';
import { mergeChanges } from '../../../src/block/table-pages.ts';
import { bitRunEnd, bitAt } from '../../../src/util/bits.ts';
import { Serial } from '../../../src/util/serial.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';
import { SectorBitmaps } from './bitmaps.ts';
import type { BitmapChange } from './bitmaps.ts';
import { BlockTable, NO_PLACE, PLACE_LIMIT } from './block-table.ts';
import { DiskType, encodeFooter, FOOTER_LENGTH } from './footer.ts';
import type { Footer } from './footer.ts';
import { describe } from './info.ts';
import { forWriting, refuseOtherSize } from './parts.ts';
import type { VpcParts } from './parts.ts';
import { lengthenTable, placeOf, resizedFooter, writeHeader } from './resize.ts';

const SECTOR = 512;
const MSB_FIRST = true;
/** The room made for new blocks at one time doubles up to so many bytes. */
const ROOM_MAX = 64 * 1024 * 1024;

/** What has to become of the place when it is filled. */
interface Allocation {
  readonly block: number;
  /** The new block's place, or NO_PLACE where it has one. */
  readonly place: number;
}

export class VpcImage implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  size: number;
  table: BlockTable;
  protected readonly bitmaps: SectorBitmaps;
  protected readonly places: Places;
  private parts: VpcParts;
  private readonly file: Child;
  private readonly unit: number;
  private readonly isOverlay: boolean;
  private readonly serial = new Serial();
  /** From here on the file was never used. */
  private freshFrom: number;
  /** Where the footer stood when the image was settled last. */
  private settledAt: number;
  private footerAt: number;
  private repairs: readonly number[];
  private writable: boolean;
  private roomBlocks = 1;
  private wantsRoom = false;
  private wantsBitmap: number | undefined = undefined;
  private failure: unknown = undefined;

  constructor(parts: VpcParts) {
    const { file, header, footer, subject } = parts;
    this.parts = parts;
    this.file = file;
    this.unit = header.block_size;
    this.size = parts.size;
    this.isOverlay = footer.type === DiskType.differencing;
    this.limits = limits({ allocationUnit: this.unit, sizeUnit: SECTOR });
    this.table = new BlockTable(file, header, subject);
    this.bitmaps = new SectorBitmaps(file, this.unit);
    this.footerAt = parts.footerAt;
    this.repairs = parts.repairs;
    this.settledAt = parts.footerAt;
    this.writable = parts.writable;
    this.freshFrom = Math.max(file.size, parts.footerAt);
    this.places = new Places(this.bitmaps.length + this.unit, parts.footerAt);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const block = Math.floor(offset / this.unit);
    const place = this.table.place(block);
    if (place === undefined) return false;
    if (place === NO_PLACE) return this.mapNothing(block, offset, max, out);
    const bits = this.bitsOf(block);
    if (bits === undefined) return false;
    const inBlock = offset % this.unit;
    const limit = Math.min(max, this.unit - inBlock);
    const data = place + this.bitmaps.length + inBlock;
    if (bits === this.bitmaps.full) return out.setData(this.file, data, limit, true);
    const first = Math.floor(inBlock / SECTOR);
    const run = bitRunEnd(bits, first, Math.ceil((inBlock + limit) / SECTOR), MSB_FIRST);
    const length = Math.min(limit, run * SECTOR - inBlock);
    if (bitAt(bits, first, MSB_FIRST)) return out.setData(this.file, data, length, true);
    return this.isOverlay ? out.setUnallocated(length) : out.setZero(length);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const block = Math.floor(offset / this.unit);
    const place = this.table.place(block);
    if (place === undefined) return false;
    out.child = this.file;
    out.token = undefined;
    out.zeroed = false;
    if (place === NO_PLACE) return this.allocateBlock(block, offset, length, out);
    const bits = this.bitsOf(block);
    if (bits === undefined) return false;
    const inBlock = offset % this.unit;
    const end = Math.min(inBlock + length, this.unit);
    const first = Math.floor(inBlock / SECTOR);
    const runEnd = bitRunEnd(bits, first, Math.ceil(end / SECTOR), MSB_FIRST) * SECTOR;
    const stored = bitAt(bits, first, MSB_FIRST);
    const from = stored ? inBlock : first * SECTOR;
    out.start = block * this.unit + from;
    out.length = (stored ? Math.min(end, runEnd) : runEnd) - from;
    out.offset = place + this.bitmaps.length + from;
    if (stored) return true;
    this.bitmaps.hold(block);
    out.token = { block, place: NO_PLACE } satisfies Allocation;
    return true;
  }

  commit(place: Placement): void {
    const allocation = allocationOf(place);
    if (allocation === undefined) return;
    const { block } = allocation;
    if (allocation.place === NO_PLACE) {
      this.bitmaps.release(block);
    } else {
      this.table.set(block, allocation.place);
      this.table.pages.release(block * 4);
      this.bitmaps.create(block, allocation.place, !this.isOverlay);
    }
    const first = (place.start - block * this.unit) / SECTOR;
    this.bitmaps.set(block, first, first + place.length / SECTOR);
  }

  abort(place: Placement): void {
    const allocation = allocationOf(place);
    if (allocation === undefined) return;
    if (allocation.place === NO_PLACE) {
      this.bitmaps.release(allocation.block);
      return;
    }
    this.table.pages.release(allocation.block * 4);
    this.places.release(allocation.place);
  }

  async load(): Promise<void> {
    const { wantsBitmap: block, wantsRoom } = this;
    this.wantsBitmap = undefined;
    this.wantsRoom = false;
    if (wantsRoom) return this.serial.run(() => this.makeRoom());
    if (this.table.pages.isFull || this.bitmaps.isCrowded) await this.flush();
    if (block === undefined) return this.table.pages.load();
    const place = this.table.place(block);
    if (place !== undefined && place !== NO_PLACE) await this.bitmaps.load(block, place);
  }

  flush(): Promise<void> {
    return this.serial.run(() => this.writeBack());
  }

  close(): Promise<void> {
    return this.serial.run(async () => {
      await this.writeBack();
      await this.settleFooter();
    });
  }

  async reopen(common: CommonOptions, options: unknown): Promise<PermissionChange> {
    refuseOtherSize(this.parts, options);
    const change = (commit: () => void): PermissionChange => ({ commit, abort: () => {} });
    if (common.readOnly) {
      if (!this.writable) return change(() => {});
      await this.close();
      return change(() => {
        this.parts = { ...this.parts, footerAt: this.footerAt, tailIsGood: true, copyIsGood: true };
        this.writable = false;
      });
    }
    if (this.writable) return change(() => {});
    const parts = await forWriting(this.parts, this.blockStep);
    return change(() => {
      this.parts = parts;
      this.footerAt = parts.footerAt;
      this.settledAt = parts.footerAt;
      this.repairs = parts.repairs;
      this.freshFrom = Math.max(this.file.size, parts.footerAt);
      this.places.reset(parts.footerAt);
      this.writable = true;
    });
  }

  resize(size: number, shrink: boolean): Promise<void> {
    return this.serial.run(async () => {
      requireShrink(this.parts.subject, this.size, size, shrink);
      const footer = resizedFooter(this.parts.footer, size, this.parts);
      await this.writeBack();
      await this.settleFooter();
      if (size > this.size) await this.growBlocks(Math.ceil(size / this.unit));
      await this.sure(() => this.writeFooters(footer));
      const old = this.size;
      this.size = size;
      if (size < old) await this.dropBlocks(Math.ceil(size / this.unit));
    });
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.parts.footer, this.parts.header, this.parts.parentName));
  }

  /** Bytes of a block with its bitmap. */
  get blockStep(): number {
    return this.places.step;
  }

  protected free(block: number, place: number): void {
    this.table.set(block, NO_PLACE);
    this.bitmaps.drop(block);
    this.places.release(place);
  }

  /** What becomes part of the disk reads as zeroes, whatever its blocks have there. */
  private async growBlocks(blocks: number): Promise<void> {
    const { file, table, unit } = this;
    const { header, footer, subject } = this.parts;
    const last = Math.floor(this.size / unit);
    for (let block = last; block < table.blocks; block += 1) {
      const place = await placeOf(table, block);
      const from = block === last ? this.size % unit : 0;
      if (place !== NO_PLACE) await file.writeZeroes(place + this.bitmaps.length + from, unit - from);
    }
    if (blocks <= table.blocks) return;
    const image = { file, header, footer, subject };
    const made = await lengthenTable(image, table, { blocks, footerAt: this.footerAt });
    await this.sure(() => writeHeader(file, made.header, footer.data_offset));
    this.parts = { ...this.parts, header: made.header };
    this.table = new BlockTable(file, made.header, subject);
    if (made.footerAt === this.footerAt) return;
    this.footerAt = made.footerAt;
    this.settledAt = made.footerAt;
    this.places.end = made.footerAt;
    this.freshFrom = Math.max(file.size, made.footerAt);
  }

  /** What decides which table and size count: when it fails nobody knows which, and nothing more is written back. */
  private async sure(change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  /** That at the end, then the copy: one of them is good at all times. */
  private async writeFooters(footer: Footer): Promise<void> {
    const bytes = encodeFooter(footer);
    await this.file.write(bytes, this.footerAt);
    await this.file.flush();
    await this.file.write(bytes, 0);
    await this.file.flush();
    this.parts = { ...this.parts, footer };
  }

  private async dropBlocks(first: number): Promise<void> {
    for (let block = first; block < this.table.blocks; block += 1) {
      if (this.table.pages.isFull) await this.writeBack();
      const place = await placeOf(this.table, block);
      if (place !== NO_PLACE) this.free(block, place);
    }
    await this.writeBack();
  }

  private mapNothing(block: number, offset: number, max: number, out: Extent): true {
    const end = Math.min(this.table.pageEnd(block), Math.ceil((offset + max) / this.unit));
    let next = block + 1;
    while (next < end && this.table.place(next) === NO_PLACE) next += 1;
    return out.setUnallocated(Math.min(max, next * this.unit - offset));
  }

  /** The bitmap of a block that has a place; undefined, with the wish noted, when it is not in memory. */
  private bitsOf(block: number): Buffer | undefined {
    const bits = this.bitmaps.get(block);
    if (bits === undefined) this.wantsBitmap = block;
    return bits;
  }

  private allocateBlock(block: number, offset: number, length: number, out: Placement): boolean {
    if (this.places.nextIsFresh && this.places.end + this.places.step > this.footerAt) {
      this.wantsRoom = true;
      return false;
    }
    const reused = !this.places.nextIsFresh;
    const place = this.places.take();
    const start = block * this.unit;
    const inBlock = offset - start;
    const from = this.isOverlay ? alignDown(inBlock, SECTOR) : 0;
    const to = this.isOverlay ? alignUp(Math.min(inBlock + length, this.unit), SECTOR) : this.unit;
    out.start = start + from;
    out.length = to - from;
    out.offset = place + this.bitmaps.length + from;
    out.zeroed = reused || out.offset >= this.freshFrom;
    out.token = { block, place } satisfies Allocation;
    this.table.pages.hold(block * 4);
    return true;
  }

  private async makeRoom(): Promise<void> {
    const { step, end } = this.places;
    if (!this.places.nextIsFresh || end + step <= this.footerAt) return;
    const old = this.footerAt;
    const next = end + step * this.roomBlocks;
    if (next > PLACE_LIMIT) {
      throw new BlockError(
        'ENOSPC',
        `Cannot grow image "${this.parts.subject}": it would reach ${next} bytes, a VHD at most ${PLACE_LIMIT}`,
      );
    }
    this.roomBlocks = Math.min(this.roomBlocks * 2, Math.max(1, Math.floor(ROOM_MAX / step)));
    await this.file.write(encodeFooter(this.parts.footer), next);
    await this.file.flush();
    await this.file.writeZeroes(old, FOOTER_LENGTH);
    this.footerAt = next;
  }

  private async writeBack(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const changes = this.table.pages.takeChanges();
    const bitmaps = this.bitmaps.takeChanges();
    const released = this.places.takeReleased();
    try {
      await this.writeRepairs();
      await this.writeBitmaps(bitmaps.filter(({ fresh }) => fresh));
      await this.file.flush();
      await this.writeBitmaps(bitmaps.filter(({ fresh }) => !fresh));
      for (const { offset, bytes } of mergeChanges(changes)) await this.file.write(bytes, offset);
      if (changes.length > 0 || bitmaps.length > 0) await this.file.flush();
      for (const place of released) await this.file.writeZeroes(place, this.places.step, ZeroFlag.mayUnmap);
    } catch (error) {
      this.table.pages.restore(changes);
      this.bitmaps.restore(bitmaps);
      this.places.keep(released);
      this.failure = error;
      throw error;
    }
    this.table.pages.written(changes);
    this.bitmaps.written(bitmaps);
    this.places.reuse(released);
  }

  private async writeBitmaps(changes: readonly BitmapChange[]): Promise<void> {
    for (const { bitmap, bytes } of changes) await this.file.write(bytes, bitmap.offset);
  }

  private async writeRepairs(): Promise<void> {
    for (const offset of this.repairs) await this.file.write(encodeFooter(this.parts.footer), offset);
    this.repairs = [];
  }

  /** On close: the footer stands behind the last block, as every reader expects it, and ends the file. */
  private async settleFooter(): Promise<void> {
    this.places.trimEnd();
    if (this.footerAt === this.settledAt && this.places.end === this.footerAt) return;
    if (this.places.end < this.footerAt) {
      await this.file.write(encodeFooter(this.parts.footer), this.places.end);
      this.footerAt = this.places.end;
    }
    await this.file.flush();
    await this.file.resize(this.footerAt + FOOTER_LENGTH, true);
    await this.file.flush();
    this.settledAt = this.footerAt;
  }
}

function allocationOf(place: Placement): Allocation | undefined {
  return place.token as Allocation | undefined;
}
