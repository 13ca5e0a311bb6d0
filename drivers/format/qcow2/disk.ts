import type {
  CheckOptions,
  CheckResult,
  DataCodec,
  ImageInfo,
  MappingDriver,
  PermissionChange,
} from '../../../src/block/driver.ts';
import type { AmendRequest } from '../../../src/block/amend-request.ts';
import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import type { CommonOptions } from '../../../src/block/schema.ts';
import type { BitmapList } from './bitmap/list.ts';
import { amendQcow2 } from './amend/amend.ts';
import { BitmapStore } from './bitmap/store.ts';
import type { ExtensionArea } from './extension-area.ts';
import type { Reader, Writer } from './build.ts';
import type { Encryption } from './encryption.ts';
import { Incompatible } from './features.ts';
import { checkImage } from './check/check.ts';
import type { Image } from './image.ts';
import type { Qcow2Options } from './options.ts';
import { Resize } from './resize.ts';
import { InternalSnapshots } from './snapshot/control.ts';
import type { SnapshotList } from './snapshots.ts';
import { storedSparsely } from './stored-sparsely.ts';

export interface DiskParts {
  readonly image: Image;
  readonly reader: Reader;
  /** Undefined for an image that is only read. */
  readonly writer: Writer | undefined;
  readonly snapshots: SnapshotList;
  readonly bitmaps: BitmapList;
  readonly area: ExtensionArea;
  readonly info: () => ImageInfo;
  /** Overwrites the keys of an encrypted image: nothing of it is read or written afterwards. */
  readonly wipe: () => void;
  readonly luks: Encryption['luks'] | undefined;
  readonly cleanSeconds: number;
  readonly changeBacking: (filename: string | undefined, format: string | undefined) => Promise<void>;
}

/** Puts the parts together anew for other options, from what is on disk. */
export type Reassemble = (common: CommonOptions, options: Qcow2Options) => Promise<DiskParts>;

/** An open qcow2 image, as the core sees it. */
export class Qcow2Disk implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  readonly codec: DataCodec | undefined;
  readonly snapshots: InternalSnapshots;
  readonly dirtyBitmaps: BitmapStore;
  private parts: DiskParts;
  /** Between the two halves of a reopen: permissions are worked out with it. */
  private next: DiskParts | undefined;
  private readonly reassemble: Reassemble;
  /** The same as in `parts`, one step nearer for the hot path. */
  private reader: Reader;
  private cleaner: NodeJS.Timeout | undefined;
  private sparse: boolean | undefined;

  constructor(parts: DiskParts, reassemble: Reassemble) {
    const { clusterSize, subclusterSize } = parts.image.geometry;
    this.parts = parts;
    this.reader = parts.reader;
    this.reassemble = reassemble;
    this.codec = parts.image.codec;
    this.limits = limits({
      allocationUnit: clusterSize,
      discardAlignment: subclusterSize,
      requestAlignment: this.codec?.unit ?? 1,
      zeroesAlignment: this.codec?.unit ?? 1,
      sizeUnit: 512,
    });
    this.snapshots = new InternalSnapshots(
      () => this.parts,
      (size) => this.dirtyBitmaps.resizing(size),
    );
    this.dirtyBitmaps = new BitmapStore(() => this.parts);
    this.startCleaner();
  }

  get image(): Image {
    return this.parts.image;
  }

  get writer(): Writer | undefined {
    return this.parts.writer;
  }

  get size(): number {
    return this.image.size;
  }

  get readOnly(): boolean {
    return (this.next ?? this.parts).writer === undefined;
  }

  /** Preallocated clusters are holes of the file until they are written. Looked at once, as it only has to be likely. */
  get recurseStatus(): boolean {
    this.sparse ??= storedSparsely(this.image);
    return this.sparse;
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return this.reader.map.tryMap(offset, max, out);
  }

  load(): Promise<void> {
    return this.image.need.load();
  }

  readOpaque(bytes: Buffer, offset: number): Promise<void> {
    return this.reader.compressed.read(bytes, offset);
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return this.reader.compressed.tryRead(bytes, at, length, offset);
  }

  /** Compressed clusters are stored as they are: in an encrypted image that would show what was written. */
  writeCompressed(bytes: Buffer, offset: number): Promise<boolean> {
    if (this.codec !== undefined) return Promise.reject(this.refuseCompression());
    return this.requireWriter().compressed.write(bytes, offset);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    return this.requireWriter().allocate.tryAllocate(offset, length, out);
  }

  commit(place: Placement): void {
    this.requireWriter().allocate.commit(place);
  }

  abort(place: Placement): void {
    this.requireWriter().allocate.abort(place);
  }

  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    return this.requireWriter().zero.tryZero(offset, length, mayUnmap);
  }

  tryDiscard(offset: number, length: number): number | false {
    return this.requireWriter().zero.tryDiscard(offset, length);
  }

  async flush(): Promise<void> {
    await this.writer?.writeback.flush();
  }

  async resize(size: number, shrink: boolean): Promise<void> {
    const resize = new Resize(this.image, this.reader, this.requireWriter());
    resize.refuse(size, shrink);
    await this.dirtyBitmaps.resizing(size);
    await resize.run(size, shrink);
  }

  async makeEmpty(): Promise<void> {
    await new Resize(this.image, this.reader, this.requireWriter()).makeEmpty();
  }

  async changeBacking(filename: string | undefined, format: string | undefined): Promise<void> {
    await this.requireWriter().writeback.flush();
    await this.parts.changeBacking(filename, format);
  }

  /** Contract: MappingDriver.amend. */
  async amend(request: AmendRequest): Promise<void> {
    this.requireWriter();
    await this.settle();
    await amendQcow2(this.parts, request, async (size) => {
      await this.resize(size, false);
      await this.settle();
    });
  }

  /** With nothing else using the disk. */
  async check(options: CheckOptions): Promise<CheckResult> {
    const { writer } = this.parts;
    await writer?.writeback.flush();
    await writer?.release.idle();
    await writer?.writeback.flushAll();
    return checkImage(this.parts, options);
  }

  caches(): CacheCounters[] {
    const { l2, compressed } = this.reader;
    const refcounts = this.parts.writer?.refcounts.store.counters('refcounts');
    return [l2.store.counters('l2'), ...(refcounts === undefined ? [] : [refcounts]), compressed.caches()];
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(this.parts.info());
  }

  /** Everything is on disk before the new parts read it; the old ones go on when the change is given up. */
  async reopen(common: CommonOptions, options: unknown): Promise<PermissionChange> {
    if (!common.readOnly) this.requireUndamaged();
    await this.settle();
    const next = await this.reassemble(common, options as Qcow2Options);
    this.next = next;
    return {
      commit: () => {
        this.parts.writer?.housekeeping.close();
        this.parts = next;
        this.reader = next.reader;
        this.next = undefined;
        this.startCleaner();
      },
      abort: () => {
        next.writer?.housekeeping.close();
        this.next = undefined;
      },
    };
  }

  async close(): Promise<void> {
    clearInterval(this.cleaner);
    this.snapshots.close();
    this.writer?.housekeeping.close();
    try {
      await this.settle();
    } finally {
      // When a flush failed holes may still be made: in a file that is about to be closed.
      await this.writer?.release.idle();
      this.parts.wipe();
    }
  }

  /** Nothing is left to be written, and the image says so. */
  private async settle(): Promise<void> {
    if (this.writer === undefined) return;
    const { writeback, release } = this.writer;
    const writeAll = async (): Promise<void> => {
      await writeback.flush();
      await release.idle();
      await writeback.flushAll();
    };
    await writeAll();
    const stored = await this.dirtyBitmaps.store().catch((error: unknown) => ({ error }));
    if (stored !== false) await writeAll();
    await this.image.clearDirtyBit();
    if (typeof stored === 'object') throw stored.error;
  }

  private startCleaner(): void {
    clearInterval(this.cleaner);
    const { cleanSeconds } = this.parts;
    if (cleanSeconds === 0) return;
    this.cleaner = setInterval(() => {
      this.reader.l2.store.cache.dropUnused();
      this.writer?.refcounts.store.cache.dropUnused();
    }, cleanSeconds * 1000).unref();
  }

  private requireUndamaged(): void {
    const { incompatible_features: bits } = this.image.header.fields;
    const bad = this.writer === undefined ? Incompatible.corrupt | Incompatible.dirty : Incompatible.corrupt;
    if ((bits & bad) === 0n) return;
    const what = 'its dirty or corrupt bit is set, it has to be closed and repaired first';
    throw new BlockError('EBUSY', `Cannot reopen image "${this.image.subject}" for writing: ${what}`);
  }

  private refuseCompression(): BlockError {
    const why = 'it is encrypted, and the format has no clusters that are both';
    return new BlockError('ENOTSUP', `Cannot write compressed to image "${this.image.subject}": ${why}`);
  }

  private requireWriter(): Writer {
    if (this.writer !== undefined) return this.writer;
    throw new BlockError('EROFS', `Cannot write to image "${this.image.subject}": it is open read-only`);
  }
}
