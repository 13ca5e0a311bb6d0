import type { CheckOptions, CheckResult, ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { Extent, Placement } from '../../../src/block/extent.ts';
import type { Limits } from '../../../src/block/limits.ts';
import { limits } from '../../../src/block/limits.ts';
import type { Reader, Writer } from './build.ts';
import { Incompatible } from './features.ts';
import { checkImage } from './check/check.ts';
import type { Image } from './image.ts';
import { Resize } from './resize.ts';
import type { SnapshotTable } from './snapshots.ts';

export interface DiskParts {
  readonly image: Image;
  readonly reader: Reader;
  /** Undefined for an image that is only read. */
  readonly writer: Writer | undefined;
  readonly snapshots: SnapshotTable;
  readonly info: () => ImageInfo;
  readonly cleanSeconds: number;
}

/** An open qcow2 image, as the core sees it. */
export class Qcow2Disk implements MappingDriver {
  readonly family = 'mapping';
  readonly limits: Limits;
  readonly image: Image;
  readonly reader: Reader;
  readonly writer: Writer | undefined;
  private readonly snapshotTable: SnapshotTable;
  private readonly describe: () => ImageInfo;
  private readonly cleaner: NodeJS.Timeout | undefined;

  constructor(parts: DiskParts) {
    const { clusterSize, subclusterSize } = parts.image.geometry;
    this.image = parts.image;
    this.reader = parts.reader;
    this.writer = parts.writer;
    this.snapshotTable = parts.snapshots;
    this.describe = parts.info;
    this.limits = limits({ allocationUnit: clusterSize, discardAlignment: subclusterSize });
    this.cleaner = parts.cleanSeconds > 0 ? this.startCleaner(parts.cleanSeconds * 1000) : undefined;
  }

  get size(): number {
    return this.image.size;
  }

  get readOnly(): boolean {
    return this.writer === undefined;
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
    await new Resize(this.image, this.reader, this.requireWriter()).run(size, shrink);
  }

  /** With nothing else using the disk. */
  async check(options: CheckOptions): Promise<CheckResult> {
    const { image, reader, writer, snapshotTable: snapshots } = this;
    await writer?.writeback.flush();
    await writer?.release.idle();
    await writer?.writeback.flushAll();
    return checkImage({ image, reader, writer, snapshots }, options);
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve(this.describe());
  }

  async close(): Promise<void> {
    clearInterval(this.cleaner);
    if (this.writer === undefined) return;
    const { housekeeping, writeback, release } = this.writer;
    housekeeping.close();
    await writeback.flush();
    await release.idle();
    await writeback.flushAll();
    await this.clearDirtyBit();
  }

  /** After lazy refcounts were all written. */
  private async clearDirtyBit(): Promise<void> {
    const { header } = this.image;
    const { incompatible_features: bits } = header.fields;
    if ((bits & Incompatible.dirty) === 0n || this.image.broken) return;
    await header.update({ incompatible_features: bits & ~Incompatible.dirty });
  }

  private startCleaner(interval: number): NodeJS.Timeout {
    return setInterval(() => {
      this.reader.l2.store.cache.dropUnused();
      this.writer?.refcounts.store.cache.dropUnused();
    }, interval).unref();
  }

  private requireWriter(): Writer {
    if (this.writer !== undefined) return this.writer;
    throw new BlockError('EROFS', `Cannot write to image "${this.image.subject}": it is open read-only`);
  }
}
