/**
 * An open VHDX image.
 *
 *     [headers, regions 1 MiB][log][metadata][block allocation table] [payload block | sector bitmap block] ... end
 *
 * New blocks are taken behind the end of the file, or where a discarded block was, zeroed, after the table that no longer
 * names it is on disk. In a differencing image a new block holds single sectors; its bits in the sector bitmap tell which.
 *
 * The headers must say that the file is being changed before it is: until `begin` no extent is writable, so the core asks
 * for a place first, and `load` begins.
 */
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { damaged, requireShrink } from '../../../src/block/refuse.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { Places } from '../../../src/block/places.ts';
import { TablePages } from '../../../src/block/table-pages.ts';
import { bitAt, bitRunEnd } from '../../../src/util/bits.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';
import { BlockTable, shapeOf, State } from './bat.ts';
import type { Shape } from './bat.ts';
import { MIB } from './header.ts';
import { describe } from './info.ts';
import { SECTOR } from './log-entry.ts';
import type { VhdxParts } from './parts.ts';
import type { Regions } from './regions.ts';
import { moveTable, planSize, sizeChanges } from './resize.ts';
import { VhdxStore } from './store.ts';
import { endForWriting } from './writable.ts';

const PAGE = 64 * 1024;
const LSB_FIRST = false;

/** What has to become of a place when it is filled. */
interface Allocation {
  readonly block: number;
  /** Byte of the file of a new block, 0 where it has one. */
  readonly offset: number;
  /** Where the bits of the block stand, 0 when all of it is stored. */
  readonly bits: number;
}

export class VhdxImage implements MappingDriver {
  readonly family = 'mapping';
  size: number;
  readonly limits: Limits;
  readonly recurseStatus: boolean;
  bat: BlockTable;
  parts: VhdxParts;
  protected readonly places: Places;
  protected readonly hasParent: boolean;
  private readonly file: Child;
  private shape: Shape;
  private readonly store: VhdxStore;
  private writable = false;
  private wantsBegin = false;
  private wantsBitmapFor: number | undefined = undefined;
  /** Byte of the file where the block that is being looked at begins. */
  private place = 0;

  constructor(parts: VhdxParts) {
    const { file, metadata, overlay } = parts;
    this.parts = parts;
    this.file = file;
    this.size = metadata.diskSize;
    this.hasParent = metadata.hasParent;
    this.recurseStatus = metadata.leaveAllocated;
    this.shape = shapeOf(metadata);
    this.limits = limits({ allocationUnit: metadata.blockSize, sizeUnit: metadata.logicalSectorSize });
    const pages = new TablePages({
      read: (bytes, offset) => overlay.read(bytes, offset),
      base: 0,
      end: Number.POSITIVE_INFINITY,
      pageSize: PAGE,
      unit: SECTOR,
    });
    this.bat = tableOf(parts, pages, this.shape);
    this.places = new Places(metadata.blockSize, alignUp(overlay.size, MIB));
    this.store = new VhdxStore(parts, this.bat, this.places);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { blockSize } = this.shape;
    const block = Math.floor(offset / blockSize);
    if (!this.bat.read(block)) return false;
    const { state, offset: place } = this.bat;
    this.place = place;
    if (state === State.partial) return this.mapPartial(block, offset, max, out);
    const end = Math.min(Math.ceil((offset + max) / blockSize), this.bat.pageEnd(block));
    const step = state === State.full ? blockSize : 0;
    let next = block + 1;
    while (next < end && this.continues(next, state, place + (next - block) * step)) next += 1;
    const length = Math.min(max, next * blockSize - offset);
    if (state === State.full) return this.mapData(place + (offset % blockSize), length, out);
    return state === State.notPresent ? out.setUnallocated(length) : out.setZero(length);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { blockSize } = this.shape;
    const block = Math.floor(offset / blockSize);
    if (!this.bat.read(block) || !this.mayBegin()) return false;
    const { state, offset: place } = this.bat;
    out.child = this.file;
    out.zeroed = false;
    out.token = undefined;
    if (state === State.full) {
      out.start = offset;
      out.length = Math.min(length, (block + 1) * blockSize - offset);
      out.offset = place + (offset % blockSize);
      return true;
    }
    if (state === State.partial) return this.allocateSectors(block, place, { offset, length }, out);
    const whole = offset % blockSize === 0 && length >= blockSize;
    if (this.hasParent && state === State.notPresent && !whole)
      return this.allocatePartial(block, { offset, length }, out);
    this.takeBlock(block, 0, out);
    out.start = block * blockSize;
    out.length = blockSize;
    return true;
  }

  commit(place: Placement): void {
    const allocation = allocationOf(place);
    if (allocation === undefined) return;
    const { block, offset, bits } = allocation;
    if (offset !== 0) {
      this.bat.set(block, bits === 0 ? State.full : State.partial, offset);
      if (bits !== 0) this.bat.clearSectors(bits);
    }
    if (bits !== 0) {
      const first = (place.start - block * this.shape.blockSize) / this.shape.sectorSize;
      this.bat.setSectors(bits, first, first + place.length / this.shape.sectorSize);
    }
    this.releasePages(allocation);
  }

  abort(place: Placement): void {
    const allocation = allocationOf(place);
    if (allocation === undefined) return;
    if (allocation.offset !== 0) this.places.release(allocation.offset);
    this.releasePages(allocation);
  }

  async load(): Promise<void> {
    const { wantsBegin, wantsBitmapFor: block } = this;
    this.wantsBegin = false;
    this.wantsBitmapFor = undefined;
    if (wantsBegin) return this.store.begin();
    if (block !== undefined) return this.store.addBitmapBlock(block);
    if (this.bat.pages.isFull) await this.flush();
    await this.bat.pages.load();
  }

  flush(): Promise<void> {
    return this.store.flush();
  }

  close(): Promise<void> {
    return this.store.finish();
  }

  async reopen(common: CommonOptions): Promise<PermissionChange> {
    const change = (commit: () => void): PermissionChange => ({ commit, abort: () => {} });
    if (common.readOnly) {
      if (this.writable) await this.store.finish();
      return change(() => {
        this.writable = false;
      });
    }
    if (this.writable) return change(() => {});
    const end = await endForWriting(this);
    return change(() => {
      this.allowWriting(end);
    });
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    requireShrink(this.parts.subject, this.size, size, shrink);
    const { metadata, shape } = planSize(this.parts, size);
    await this.store.resize(async (write) => {
      const { parts, bat } = this;
      const old = bat.shape;
      let regions: Regions | undefined;
      if (size > this.size) {
        await this.clearTail();
        await bat.clearBehind(Math.min(shape.entries, Math.floor(parts.regions.bat.length / 8)));
        regions = await moveTable(parts, { old: old.entries, new: shape.entries }, this.places.end);
        this.places.end += regions?.bat.length ?? 0;
      }
      await write(await sizeChanges(parts, size, regions));
      this.parts = { ...parts, metadata, regions: regions ?? parts.regions };
      this.shape = shape;
      this.size = size;
      if (shape.blocks < old.blocks) await this.freeBehind(shape.blocks);
      this.bat = tableOf(this.parts, bat.pages, shape);
      this.store.adopt(this.parts, this.bat);
      if (metadata.leaveAllocated && !metadata.hasParent) await this.fillBehind(old.blocks);
    });
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    const { blockSize } = this.shape;
    for (let at = 0; at < bytes.length;) {
      const block = Math.floor((offset + at) / blockSize);
      while (!this.bat.read(block)) await this.bat.pages.load();
      const inBlock = (offset + at) % blockSize;
      const place = this.bat.offset + inBlock;
      const length = Math.min(bytes.length - at, blockSize - inBlock);
      await this.parts.overlay.read(bytes.subarray(at, at + length), place);
      at += length;
    }
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.parts));
  }

  /** The file is used up to `end`, though it may be shorter: new blocks go behind that. */
  allowWriting(end: number): void {
    this.places.reset(alignUp(Math.max(end, this.file.size), MIB));
    this.writable = true;
  }

  protected free(block: number): void {
    const { state, offset } = this.bat;
    this.bat.set(block, State.zero, 0);
    if (state >= State.full) this.places.release(offset);
  }

  /** The last block behind the end of the disk. */
  private async clearTail(): Promise<void> {
    const { blockSize } = this.shape;
    const from = this.size % blockSize;
    if (from === 0) return;
    const block = Math.floor(this.size / blockSize);
    await this.see(block);
    const { state, offset } = this.bat;
    if (state >= State.full) await this.file.writeZeroes(offset + from, blockSize - from);
  }

  private async freeBehind(blocks: number): Promise<void> {
    for (let block = blocks; block < this.bat.shape.blocks; block += 1) {
      await this.see(block);
      if (this.bat.state !== State.notPresent) this.free(block);
    }
  }

  /** A fixed image has every block. */
  private async fillBehind(blocks: number): Promise<void> {
    const offsets = Array.from({ length: this.shape.blocks - blocks }, () => this.places.take());
    await this.file.growTo(this.places.end);
    for (const [index, offset] of offsets.entries()) {
      await this.see(blocks + index);
      this.bat.set(blocks + index, State.full, offset);
    }
  }

  /** Puts the entry of a block where `bat.state` and `bat.offset` tell it. */
  private async see(block: number): Promise<void> {
    while (!this.bat.read(block)) await this.bat.pages.load();
  }

  /** False, with the wish noted, before the first change. */
  protected mayBegin(): boolean {
    this.wantsBegin = !this.store.begun;
    return this.store.begun;
  }

  /** Whether the entry of `block` is in memory and goes on with a run. */
  private continues(block: number, state: number, place: number): boolean {
    return (
      this.bat.read(block) && this.bat.state === state && (state !== State.full || this.bat.offset === place)
    );
  }

  private mapData(place: number, length: number, out: Extent): true {
    const { overlay } = this.parts;
    if (overlay.isEmpty) return out.setData(this.file, place, length, this.store.begun);
    const touched = overlay.nextTouched(place);
    if (touched > place) return out.setData(this.file, place, Math.min(length, touched - place), false);
    return out.setOpaque(Math.min(length, overlay.touchedEnd(place) - place), false);
  }

  private mapPartial(block: number, offset: number, max: number, out: Extent): boolean {
    const position = this.bits(block);
    if (position === undefined) return false;
    const page = this.bat.pages.page(position);
    if (page === undefined) return false;
    const { blockSize, sectorSize } = this.shape;
    const inBlock = offset % blockSize;
    const limit = Math.min(max, blockSize - inBlock);
    const base = this.bat.firstBit(position);
    const first = base + Math.floor(inBlock / sectorSize);
    const end = bitRunEnd(page, first, base + Math.ceil((inBlock + limit) / sectorSize), LSB_FIRST) - base;
    const length = Math.min(limit, end * sectorSize - inBlock);
    return bitAt(page, first, LSB_FIRST)
      ? this.mapData(this.place + inBlock, length, out)
      : out.setUnallocated(length);
  }

  /** Where in the file the bits of a block stand that has some; undefined when the table is not in memory. */
  private bits(block: number): number | undefined {
    const bitmap = this.bat.bitmapBlock(block);
    if (bitmap === undefined) return undefined;
    if (bitmap === 0) {
      throw damaged(
        this.parts.subject,
        `block ${block} is partially present without a sector bitmap block`,
        'must have one',
      );
    }
    return this.bat.bitsPosition(block, bitmap);
  }

  /** In a block that holds some sectors: those of the request that it does not hold, or does, whichever come first. */
  private allocateSectors(
    block: number,
    place: number,
    request: { offset: number; length: number },
    out: Placement,
  ): boolean {
    const position = this.bits(block);
    const page = position === undefined ? undefined : this.bat.pages.page(position);
    if (position === undefined || page === undefined) return false;
    const { blockSize, sectorSize } = this.shape;
    const inBlock = request.offset % blockSize;
    const end = Math.min(inBlock + request.length, blockSize);
    const base = this.bat.firstBit(position);
    const first = Math.floor(inBlock / sectorSize);
    const run =
      (bitRunEnd(page, base + first, base + Math.ceil(end / sectorSize), LSB_FIRST) - base) * sectorSize;
    const stored = bitAt(page, base + first, LSB_FIRST);
    const from = stored ? inBlock : first * sectorSize;
    out.start = block * blockSize + from;
    out.length = (stored ? Math.min(end, run) : run) - from;
    out.offset = place + from;
    if (stored) return true;
    this.hold(out, { block, offset: 0, bits: position });
    return true;
  }

  /** A new block of a differencing image, with the sectors of the request only. */
  private allocatePartial(
    block: number,
    request: { offset: number; length: number },
    out: Placement,
  ): boolean {
    const bitmap = this.bat.bitmapBlock(block);
    if (bitmap === undefined) return false;
    if (bitmap === 0) {
      this.wantsBitmapFor = block;
      return false;
    }
    const position = this.bat.bitsPosition(block, bitmap);
    if (this.bat.pages.page(position) === undefined) return false;
    const { blockSize, sectorSize } = this.shape;
    const inBlock = request.offset % blockSize;
    const from = alignDown(inBlock, sectorSize);
    const to = alignUp(Math.min(inBlock + request.length, blockSize), sectorSize);
    this.takeBlock(block, position, out);
    out.start = block * blockSize + from;
    out.length = to - from;
    out.offset += from;
    return true;
  }

  private takeBlock(block: number, bits: number, out: Placement): void {
    const offset = this.places.take();
    out.offset = offset;
    out.zeroed = true;
    this.hold(out, { block, offset, bits });
  }

  private hold(out: Placement, allocation: Allocation): void {
    this.bat.pages.hold(this.bat.positionOf(allocation.block));
    if (allocation.bits !== 0) this.bat.pages.hold(allocation.bits);
    out.token = allocation;
  }

  private releasePages({ block, bits }: Allocation): void {
    this.bat.pages.release(this.bat.positionOf(block));
    if (bits !== 0) this.bat.pages.release(bits);
  }
}

function tableOf(parts: VhdxParts, pages: TablePages, shape: Shape): BlockTable {
  const { file, overlay, regions, subject } = parts;
  const fileSize = (): number => Math.max(overlay.size, file.size);
  return new BlockTable(pages, shape, { offset: regions.bat.offset, subject, fileSize });
}

function allocationOf(place: Placement): Allocation | undefined {
  return place.token as Allocation | undefined;
}
