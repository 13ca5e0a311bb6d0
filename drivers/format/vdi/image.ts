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
import { encodeField, Entry, fieldOffset, ImageType, isOverlay } from './header.ts';
import type { VdiFieldName, VdiHeader } from './header.ts';
import { describe } from './info.ts';
import { gaps, readUsage } from './usage.ts';
import type { Usage } from './usage.ts';

const NO_PLACE = -1;

export class VdiImage implements MappingDriver {
  readonly family = 'mapping';
  readonly size: number;
  readonly limits: Limits;
  readonly header: VdiHeader;
  readonly map: BlockMap;
  readonly file: Child;
  private readonly subject: string;
  private writable = false;
  readonly recurseStatus: boolean;
  protected readonly places: Places;
  private readonly serial = new Serial();
  /** From here on the file was never used. */
  private freshFrom: number;
  private begun = false;
  private wantsBegin = false;
  private wantsFlush = false;
  private failure: unknown = undefined;

  /** @param usage undefined for an image that is only read */
  constructor(file: Child, header: VdiHeader, subject: string, usage: Usage | undefined) {
    this.file = file;
    this.header = header;
    this.size = header.disk_size;
    this.recurseStatus = header.image_type === ImageType.fixed;
    this.limits = limits({ allocationUnit: header.block_size });
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

  info(): Promise<ImageInfo> {
    return Promise.resolve(describe(this.header, this.begun ? this.places.end : undefined));
  }

  /** Makes the image ready to be written to; also at open, where nothing would ask for a place (fixed images). */
  async begin(): Promise<void> {
    if (this.begun) return;
    this.header.uuid_modification = randomUUID();
    await this.writeFields('uuid_modification');
    this.begun = true;
  }

  private allowWriting(usage: Usage): void {
    this.places.reset(usage.end);
    for (const place of gaps(usage)) this.places.release(place);
    this.freshFrom = this.file.size;
    this.writable = true;
  }

  /** Everything written back, no place left over: nothing more is written until the next change. */
  private finish(): Promise<void> {
    return this.serial.run(async () => {
      await this.writeBack();
      if (this.begun) await this.settle();
      this.begun = false;
    });
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
  private async writeBack(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const changes = this.map.pages.takeChanges();
    const released = this.begun ? this.places.takeReleased() : [];
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
    if (this.file.size < end) await this.file.resize(end);
    if (this.header.blocks_allocated === places) return;
    this.header.blocks_allocated = places;
    await this.writeFields('blocks_allocated');
  }

  /** On close: no place is left over. */
  private async settle(): Promise<void> {
    this.places.trimEnd();
    const left = new Set(this.places.freePlaces);
    if (left.size > 0) await this.adopt([...left]);
    const { offset_data: data, block_size: unit, block_extra: extra } = this.header;
    const end = data + this.places.end * (unit + extra);
    if (this.header.blocks_allocated === this.places.end && this.file.size <= end) return;
    this.header.blocks_allocated = this.places.end;
    await this.writeFields('blocks_allocated');
    await this.file.flush();
    if (this.header.image_type !== ImageType.fixed && this.file.size > end) await this.file.resize(end, true);
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
}

/** Dynamic and differencing images: blocks come and go. */
export class SparseVdiImage extends VdiImage {
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    return this.eachWhole(offset, length, (block, entry) => {
      if (entry < Entry.zero && !mayUnmap) return false;
      if (entry < Entry.zero || (entry === Entry.unallocated && isOverlay(this.header)))
        this.setZero(block, entry);
      return true;
    });
  }

  tryDiscard(offset: number, length: number): number | false {
    return this.eachWhole(offset, length, (block, entry) => {
      if (entry < Entry.zero) this.setZero(block, entry);
      return true;
    });
  }

  private setZero(block: number, entry: number): void {
    this.map.set(block, Entry.zero);
    if (entry < Entry.zero) this.places.release(entry);
  }

  /** Visits the whole blocks from `offset` on while `visit` handles them; the bytes handled. */
  private eachWhole(
    offset: number,
    length: number,
    visit: (block: number, entry: number) => boolean,
  ): number | false {
    const { block_size: unit } = this.header;
    if (offset % unit !== 0) return 0;
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const next = Math.min(at + unit, this.size);
      if (next > end) break;
      const block = at / unit;
      const entry = this.map.entry(block);
      if (entry === undefined || !this.mayBegin()) return at > offset ? at - offset : false;
      if (!visit(block, entry)) break;
      at = next;
    }
    return at - offset;
  }
}
