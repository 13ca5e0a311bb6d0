/**
 * Another size for the disk. The node holds all of it exclusively meanwhile.
 *
 *   grow    L1 table that is long enough -> what shows at the new end is made zero, flushed -> raw data file is so long
 *           -> size in the header
 *   shrink  size in the header -> what lies past it is freed -> raw data file is cut
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { Extent, Placement } from '../../../src/block/extent.ts';
import { alignDown, alignUp } from '../../../src/util/sizes.ts';
import type { Reader, Writer } from './build.ts';
import type { Header } from './header.ts';
import type { Image } from './image.ts';

const L1_MAX = 32 * 1024 * 1024;

export class Resize {
  private readonly image: Image;
  private readonly reader: Reader;
  private readonly writer: Writer;

  constructor(image: Image, reader: Reader, writer: Writer) {
    this.image = image;
    this.reader = reader;
    this.writer = writer;
  }

  async run(size: number, shrink: boolean): Promise<void> {
    const { image } = this;
    const old = image.size;
    this.refuse(size, shrink);
    while (!image.tryPrepare()) await image.need.load();
    if (size < old) await this.shrink(old, size);
    else if (size > old) await this.prepareGrowth(old, size);
    if (image.rawData) await image.data.resize(size, shrink);
    if (size <= old) return;
    await image.header.update({ size });
    image.size = size;
  }

  /** Contract: MappingDriver.makeEmpty. */
  async makeEmpty(): Promise<void> {
    const { image, writer } = this;
    while (!image.tryPrepare()) await image.need.load();
    await this.dropRange(0, alignUp(image.size, image.geometry.clusterSize));
    await writer.writeback.flush();
  }

  /** Throws what `run` would refuse. */
  refuse(size: number, shrink: boolean): void {
    const { image } = this;
    const { fields } = image.header;
    const fail = (code: 'EINVAL' | 'ENOTSUP' | 'EFBIG', what: string): never => {
      throw new BlockError(code, `Cannot resize image "${image.subject}" to ${size} bytes: ${what}`);
    };
    if (size % 512 !== 0) fail('EINVAL', 'the size must be a multiple of 512');
    if (size < image.size && !shrink) fail('EINVAL', `it has ${image.size}, and shrinking was not asked for`);
    if (fields.nb_snapshots > 0 && fields.version < 3) fail('ENOTSUP', 'version 2 with internal snapshots');
    const entries = Math.ceil(size / image.geometry.tableSpan);
    if (entries * 8 > L1_MAX)
      fail('EFBIG', `the L1 table would have ${entries} entries, must be at most ${L1_MAX / 8}`);
  }

  /** All that takes room: when it fails the disk has the size that it had. */
  private async prepareGrowth(old: number, size: number): Promise<void> {
    const { clusterSize, tableSpan } = this.image.geometry;
    const entries = Math.ceil(size / tableSpan);
    if (entries > this.reader.l1.length) await this.moveL1(entries);
    await this.dropRange(alignUp(old, clusterSize), alignUp(size, clusterSize));
    await this.zeroRange(old, Math.min(size, alignUp(old, clusterSize)));
    const below = this.cow?.size ?? 0;
    await this.zeroRange(
      alignUp(old, clusterSize),
      Math.min(alignUp(size, clusterSize), alignUp(below, clusterSize)),
    );
    await this.writer.writeback.flush();
  }

  private get cow(): Child | undefined {
    return this.image.file.parent.parentNode?.cow;
  }

  private async moveL1(entries: number): Promise<void> {
    const { image, writer } = this;
    const { clusterSize } = image.geometry;
    const clusters = Math.ceil((entries * 8) / clusterSize);
    const first = clusters === 1 ? await writer.allocator.take(1) : await writer.growth.reserve(clusters);
    try {
      // The refcounts of the new table have to be on disk before the header names it.
      await writer.writeback.flushAll();
      await writer.writeback.exclusively(() => this.switchL1(entries, first * clusterSize));
    } catch (error) {
      writer.allocator.mayBeWritten((first + clusters) * clusterSize);
      if (!image.broken) writer.frees.add(first, clusters, 'other');
      throw error;
    }
  }

  private async switchL1(entries: number, offset: number): Promise<void> {
    const { image, reader, writer } = this;
    const { clusterSize } = image.geometry;
    const old = { offset: image.header.fields.l1_table_offset, length: reader.l1.length * 8 };
    const bytes = reader.l1.grown(entries);
    await image.file.write(padded(bytes, clusterSize), offset);
    await image.file.flush();
    await this.publish({ l1_table_offset: offset, l1_size: entries }, 'L1 tables');
    reader.l1.moveTo(bytes, offset);
    writer.metadata.add(offset, bytes.length, 'the L1 table');
    if (old.length === 0) return;
    writer.metadata.remove(old.offset, old.length);
    writer.frees.add(old.offset / clusterSize, Math.ceil(old.length / clusterSize), 'other');
  }

  /** When it fails nothing may be written any more: it might belong to what the header does not name. */
  private async publish(fields: Partial<Header>, what: string): Promise<void> {
    try {
      await this.image.header.update(fields);
    } catch (error) {
      const text = `Cannot write to image "${this.image.subject}": the header may name either of two ${what}`;
      const failure = new BlockError('EIO', text, {}, error);
      this.image.refuseWrites(failure);
      throw failure;
    }
  }

  /** Makes [start, end) read as zeroes, by the tables where they can. */
  private async zeroRange(start: number, end: number): Promise<void> {
    for (let at = start; at < end;) {
      const done = this.writer.zero.tryZero(at, end - at, true);
      if (done === false) await this.image.need.load();
      else if (done > 0) at += done;
      else at += await this.zeroByWriting(at, end);
    }
  }

  /** The rest of one cluster. */
  private async zeroByWriting(start: number, end: number): Promise<number> {
    const { clusterSize } = this.image.geometry;
    const stop = Math.min(end, alignDown(start, clusterSize) + clusterSize);
    const extent = new Extent();
    while (!this.reader.map.tryMap(start, stop - start, extent)) await this.image.need.load();
    const { kind, length } = extent;
    const showsNothing = kind === 'unallocated' && start >= (this.cow?.size ?? 0);
    if (kind === 'zero' || showsNothing) return length;
    const inPlace = kind === 'data' && extent.writable && this.image.codec === undefined;
    if (inPlace) await this.image.data.writeZeroes(extent.offset, length);
    else await this.copyWithZeroes(start, length);
    return length;
  }

  private async copyWithZeroes(start: number, length: number): Promise<void> {
    const place = new Placement();
    const { allocate } = this.writer;
    while (!allocate.tryAllocate(start, length, place)) await this.image.need.load();
    try {
      const bytes = Buffer.alloc(place.length);
      await this.readOld(bytes, place.start);
      bytes.fill(0, start - place.start, start - place.start + length);
      this.image.codec?.encode(bytes, 0, bytes.length, place.start, place.offset);
      await this.image.data.write(bytes, place.offset);
    } catch (error) {
      allocate.abort(place);
      throw error;
    }
    allocate.commit(place);
  }

  private async readOld(bytes: Buffer, start: number): Promise<void> {
    const extent = new Extent();
    for (let at = 0; at < bytes.length;) {
      while (!this.reader.map.tryMap(start + at, bytes.length - at, extent)) await this.image.need.load();
      const piece = bytes.subarray(at, at + extent.length);
      if (extent.kind === 'data') await this.readData(piece, start + at, extent.offset);
      else if (extent.kind === 'opaque') await this.reader.compressed.read(piece, start + at);
      else if (extent.kind === 'unallocated') await this.cow?.read(piece, start + at);
      at += piece.length;
    }
  }

  private async readData(bytes: Buffer, offset: number, place: number): Promise<void> {
    await this.image.data.read(bytes, place);
    this.image.codec?.decode(bytes, 0, bytes.length, offset, place);
  }

  private async shrink(old: number, size: number): Promise<void> {
    const { image, writer } = this;
    const { clusterSize, tableSpan } = image.geometry;
    await writer.writeback.flush();
    await this.publish({ size }, 'sizes');
    image.size = size;
    await this.dropRange(alignUp(size, clusterSize), alignUp(old, clusterSize));
    await writer.writeback.exclusively(() => {
      this.dropTables(Math.ceil(size / tableSpan));
      return Promise.resolve();
    });
    await writer.writeback.flush();
  }

  private async dropRange(start: number, end: number): Promise<void> {
    for (let at = start; at < end;) {
      const done = this.writer.zero.tryDrop(at, end - at);
      if (done === false) await this.image.need.load();
      else at += done;
    }
  }

  /** L2 tables of L1 entries from `from` on: they are empty. */
  private dropTables(from: number): void {
    const { reader, writer, image } = this;
    const { clusterSize, slicesPerTable } = image.geometry;
    for (let index = from; index < reader.l1.length; index += 1) {
      const offset = reader.l1.clear(index);
      if (offset === 0) continue;
      for (let slice = 0; slice < slicesPerTable; slice += 1) {
        reader.l2.store.cache.forget(index * slicesPerTable + slice);
      }
      writer.metadata.remove(offset, clusterSize);
      writer.frees.add(offset / clusterSize, 1, 'request');
    }
  }
}

function padded(bytes: Buffer, unit: number): Buffer {
  const whole = Buffer.alloc(alignUp(bytes.length, unit));
  bytes.copy(whole);
  return whole;
}
