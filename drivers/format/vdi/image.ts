/**
 * An open VDI image.
 *
 *     [header][block map ...][place 0: extra, data][place 1: extra, data] ...
 *
 * Places are taken one behind the other: the header's blocks_allocated is the number of the next one, which is what
 * every other program goes by. A discarded block becomes "zero"; its place is used again when the map that no longer
 * names it is on disk, and zeroed by then. Places that nobody took when the image is closed are cut off at the end of the file, and inside
 * it are given to blocks that read as zeroes anyway: so no gap is left that others would count wrong.
 *
 * The first change of content gives the image a new modification UUID: the core sees no extent as writable until then,
 * asks for a place, and `load` writes the header.
 */
import { randomUUID } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import type { ImageInfo, MappingDriver, PermissionChange } from '../../../src/block/driver.ts';
import { ZeroFlag } from '../../../src/block/driver.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import type { Limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import { Places } from '../../../src/block/places.ts';
import { mergeChanges } from '../../../src/block/table-pages.ts';
import { Serial } from '../../../src/util/serial.ts';
import { BlockMap } from './block-map.ts';
import {
  encodeField,
  Entry,
  fieldOffset,
  HEADER_FIELDS,
  HEADER_LENGTH,
  ImageType,
  isOverlay,
} from './header.ts';
import type { VdiFieldName, VdiHeader } from './header.ts';
import { describe } from './info.ts';
import {
  clearBehind,
  copyBytes,
  copyPlaces,
  placesFrom,
  planGrowth,
  refuseSize,
  writeMap,
} from './resize.ts';
import type { Growth } from './resize.ts';
import { gaps, readUsage } from './usage.ts';
import type { Usage } from './usage.ts';

const NO_PLACE = -1;

export class VdiImage implements MappingDriver {
  readonly family = 'mapping';
  size: number;
  readonly limits: Limits;
  readonly header: VdiHeader;
  map: BlockMap;
  readonly file: Child;
  protected readonly subject: string;
  private writable = false;
  readonly recurseStatus: boolean;
  protected readonly places: Places;
  private readonly serial = new Serial();
  /** From here on the file was never used. */
  private freshFrom: number;
  private begun = false;
  /** Places and the count of them are not as others expect them: a crash left them so. */
  private unsettled = false;
  private wantsBegin = false;
  private wantsFlush = false;
  private failure: unknown = undefined;

  /** @param usage undefined for an image that is only read */
  constructor(file: Child, header: VdiHeader, subject: string, usage: Usage | undefined) {
    this.file = file;
    this.header = header;
    this.size = header.disk_size;
    this.recurseStatus = header.image_type === ImageType.fixed;
    this.limits = limits({ allocationUnit: header.block_size, sizeUnit: 512 });
    this.map = new BlockMap(file, header, subject);
    this.subject = subject;
    this.freshFrom = file.size;
    this.places = new Places(1, 0);
    if (usage !== undefined) this.allowWriting(usage);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const { block_size: unit } = this.header;
    const block = Math.floor(offset / unit);
    const entry = this.map.entry(block);
    if (entry === undefined) return false;
    const next = this.runEnd(block, entry, Math.ceil((offset + max) / unit));
    const length = Math.min(max, next * unit - offset);
    if (entry === Entry.zero) return out.setZero(length);
    if (entry === Entry.unallocated) return out.setUnallocated(length);
    return out.setData(this.file, this.placeOffset(entry) + (offset % unit), length, this.begun);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { block_size: unit } = this.header;
    const block = Math.floor(offset / unit);
    const entry = this.map.entry(block);
    if (entry === undefined || !this.mayBegin()) return false;
    if (entry >= Entry.zero && !this.hasPlace()) return false;
    out.child = this.file;
    out.zeroed = false;
    out.token = NO_PLACE;
    if (entry < Entry.zero) {
      out.start = offset;
      out.length = Math.min(length, (block + 1) * unit - offset);
      out.offset = this.placeOffset(entry) + (offset % unit);
      return true;
    }
    this.takePlace(block, out);
    return true;
  }

  commit(place: Placement): void {
    if (typeof place.token !== 'number' || place.token === NO_PLACE) return;
    const block = Math.floor(place.start / this.header.block_size);
    this.map.set(block, place.token);
    this.map.pages.release(block * 4);
  }

  abort(place: Placement): void {
    if (typeof place.token !== 'number' || place.token === NO_PLACE) return;
    this.places.release(place.token);
    this.map.pages.release(Math.floor(place.start / this.header.block_size) * 4);
  }

  async load(): Promise<void> {
    if (this.wantsBegin) {
      this.wantsBegin = false;
      await this.serial.run(() => this.begin());
      return;
    }
    if (this.wantsFlush || this.map.pages.isFull) await this.flush();
    this.wantsFlush = false;
    await this.map.pages.load();
  }

  flush(): Promise<void> {
    return this.serial.run(() => this.writeBack());
  }

  close(): Promise<void> {
    return this.finish();
  }

  async reopen(common: CommonOptions): Promise<PermissionChange> {
    const change = (commit: () => void): PermissionChange => ({ commit, abort: () => {} });
    if (common.readOnly) {
      if (this.writable) await this.finish();
      return change(() => {
        this.writable = false;
      });
    }
    if (this.writable) return change(() => {});
    const { header, subject, file } = this;
    const usage = await readUsage(new BlockMap(file, header, subject), header, { size: file.size, subject });
    return change(() => {
      this.allowWriting(usage);
    });
  }

  resize(size: number, shrink: boolean): Promise<void> {
    return this.serial.run(async () => {
      const growth = planGrowth(this.header, size, shrink, this.subject);
      await this.begin();
      await this.writeBack();
      if (size < this.size) await this.shrinkTo(size);
      else await this.growBy(growth, size);
    });
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.header, this.begun ? this.places.end : undefined));
  }

  /** Before the first change of content. */
  private async begin(): Promise<void> {
    if (this.begun) return;
    this.header.uuid_modification = randomUUID();
    await this.writeFields('uuid_modification');
    this.begun = true;
  }

  private allowWriting(usage: Usage): void {
    this.places.reset(usage.end);
    for (const place of gaps(usage)) this.places.release(place);
    this.unsettled = usage.count !== this.header.blocks_allocated || usage.count !== usage.end;
    this.freshFrom = this.file.size;
    this.writable = true;
  }

  /** Everything written back, no place left over: nothing more is written until the next change. */
  finish(): Promise<void> {
    return this.serial.run(async () => {
      await this.writeBack();
      if (this.begun || this.unsettled) await this.settle();
      this.begun = false;
      this.unsettled = false;
    });
  }

  protected shrinkTo(size: number): Promise<void> {
    return refuseSize(this.subject, size, 'a fixed image does not shrink');
  }

  /** What becomes part of the disk reads as zeroes, whatever the image has there. */
  private async growBy({ blocks, given }: Growth, size: number): Promise<void> {
    const { file, header, map, subject } = this;
    const step = header.block_size + header.block_extra;
    const next = { ...header, disk_size: size, blocks_in_image: blocks };
    const offsetOf = (place: number): number => this.placeOffset(place);
    await clearBehind(file, map, { end: this.size, unit: header.block_size, offsetOf });
    if (given > 0) {
      await this.giveUpPlaces(given);
      next.offset_bmap = header.offset_data;
      next.offset_data = header.offset_data + given * step;
    }
    let used = this.places.end - given;
    const entryFor = (): number => (header.image_type === ImageType.fixed ? used++ : Entry.unallocated);
    if (given > 0) await writeMap(file, map, { at: next.offset_bmap, blocks, given, entryFor });
    else await writeMap(file, map, { at: next.offset_bmap, from: map.blocks, blocks, given, entryFor });
    next.blocks_allocated = Math.max(0, used);
    const end = next.offset_data + used * step;
    await file.growTo(end);
    await file.flush();
    await this.writeHeader(next);
    const grown = new BlockMap(file, next, subject);
    const usage = await readUsage(grown, next, { size: file.size, subject });
    Object.assign(header, next);
    this.map = grown;
    this.size = size;
    this.allowWriting(usage);
  }

  /** Moves what lies in the first places to the end. */
  private async giveUpPlaces(count: number): Promise<void> {
    const { file, header, map } = this;
    const { block_size: unit, block_extra: extra } = header;
    const offsetOf = (place: number): number => this.placeOffset(place) - extra;
    const end = Math.max(this.places.end, count);
    const moved = await copyPlaces(file, map, { count, end, offsetOf, step: unit + extra });
    this.places.reset(end + moved.length);
    map.limit = Math.max(map.limit, this.places.end);
    for (const { block, place } of moved) {
      while (map.entry(block) === undefined) await map.pages.load();
      map.set(block, place);
    }
    await this.writeBack();
  }

  /** False, with the wish noted, before the first change. */
  protected mayBegin(): boolean {
    this.wantsBegin = !this.begun;
    return this.begun;
  }

  protected placeOffset(place: number): number {
    const { offset_data: data, block_size: unit, block_extra: extra } = this.header;
    return data + place * (unit + extra) + extra;
  }

  /**
   * Whether there is a place to take; false, with the wish noted, when all are used or wait for the map to be written:
   * a number must be less than the number of blocks.
   */
  private hasPlace(): boolean {
    this.wantsFlush = this.places.nextIsFresh && this.places.end >= this.map.blocks;
    return !this.wantsFlush;
  }

  /** The block behind the run, from `block` on, whose entries continue `entry`: alike, or neighbouring places. */
  private runEnd(block: number, entry: number, limit: number): number {
    const step = entry >= Entry.zero ? 0 : 1;
    if (step === 1 && this.header.block_extra !== 0) return block + 1;
    const end = Math.min(limit, this.map.pageEnd(block));
    let next = block + 1;
    while (next < end && this.map.entry(next) === entry + (next - block) * step) next += 1;
    return next;
  }

  private takePlace(block: number, out: Placement): void {
    const { block_size: unit } = this.header;
    const reused = !this.places.nextIsFresh;
    const place = this.places.take();
    out.token = place;
    out.start = block * unit;
    out.length = unit;
    out.offset = this.placeOffset(place);
    out.zeroed = reused || out.offset >= this.freshFrom;
    this.map.pages.hold(block * 4);
  }

  /** Data and the count of places first, then the map that names them; a freed place is free after that. */
  protected async writeBack(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const changes = this.map.pages.takeChanges();
    const released = this.begun || this.unsettled ? this.places.takeReleased() : [];
    try {
      if (changes.length > 0) await this.growTo(this.places.end);
      await this.file.flush();
      for (const { offset, bytes } of mergeChanges(changes)) await this.file.write(bytes, offset);
      if (changes.length > 0) await this.file.flush();
      await this.zeroPlaces(released);
    } catch (error) {
      this.map.pages.restore(changes);
      this.places.keep(released);
      this.failure = error;
      throw error;
    }
    this.map.pages.written(changes);
    this.places.reuse(released);
  }

  private async zeroPlaces(places: readonly number[]): Promise<void> {
    for (const place of places) {
      await this.file.writeZeroes(this.placeOffset(place), this.header.block_size, ZeroFlag.mayUnmap);
    }
  }

  private async growTo(places: number): Promise<void> {
    const { offset_data: data, block_size: unit, block_extra: extra } = this.header;
    const end = data + places * (unit + extra);
    await this.file.growTo(end);
    const used = Math.min(places, this.map.blocks);
    if (this.header.blocks_allocated === used) return;
    this.header.blocks_allocated = used;
    await this.writeFields('blocks_allocated');
  }

  /** On close: no place is left over. */
  private async settle(): Promise<void> {
    if (this.map.limit > this.map.blocks) await this.bringBack();
    this.places.trimEnd();
    const left = new Set(this.places.freePlaces);
    if (left.size > 0) await this.adopt([...left]);
    const { offset_data: data, block_size: unit, block_extra: extra } = this.header;
    const end = data + this.places.end * (unit + extra);
    const used = Math.min(this.places.end, this.map.blocks);
    if (this.header.blocks_allocated === used && this.file.size <= end) return;
    this.header.blocks_allocated = used;
    await this.writeFields('blocks_allocated');
    await this.file.flush();
    if (this.header.image_type !== ImageType.fixed && this.file.size > end) await this.file.resize(end, true);
  }

  /** A growth that was cut off half-way may have left blocks at places that have no number yet: back into the gaps. */
  private async bringBack(): Promise<void> {
    const { file, map, places } = this;
    const step = this.header.block_size + this.header.block_extra;
    for (const { block, entry } of await placesFrom(map, map.blocks)) {
      if (places.nextIsFresh) return;
      const place = places.take();
      await copyBytes(file, this.placeOffset(entry), this.placeOffset(place), step - this.header.block_extra);
      map.set(block, place);
      places.release(entry);
    }
    await this.writeBack();
  }

  private async adopt(left: number[]): Promise<void> {
    for (const place of left)
      await this.file.writeZeroes(this.placeOffset(place), this.header.block_size, ZeroFlag.mayUnmap);
    await this.map.each((block, entry) => {
      const readsAsZero = entry === Entry.zero || (entry === Entry.unallocated && !isOverlay(this.header));
      if (!readsAsZero || left.length === 0) return;
      this.map.set(block, left.pop() ?? 0);
    });
    await this.writeBack();
  }

  private async writeFields(...names: VdiFieldName[]): Promise<void> {
    for (const name of names) {
      const bytes = Buffer.alloc(512);
      encodeField(bytes, name, this.header[name]);
      const at = fieldOffset(name);
      const length = typeof this.header[name] === 'string' ? 16 : 4;
      await this.file.write(bytes.subarray(at, at + length), at);
    }
  }

  /** In one piece: a sector is written as a whole or not at all. */
  protected async writeHeader(header: VdiHeader): Promise<void> {
    const bytes = Buffer.alloc(HEADER_LENGTH);
    await this.file.read(bytes, 0);
    for (const { field } of HEADER_FIELDS) encodeField(bytes, field, header[field]);
    try {
      await this.file.write(bytes, 0);
      await this.file.flush();
    } catch (error) {
      // Nobody knows which map counts now: nothing more is written back.
      this.failure = error;
      throw error;
    }
  }
}
