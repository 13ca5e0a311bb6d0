/**
 * Writes the bitmaps of an open image:
 *
 *     pieces, tables, directory in new clusters -> their refcounts, flush -> the header names the directory -> old ones freed
 *
 * Before the header is written, and after an error, the image is as it was: what it says is in use stays so.
 */
import type { BitmapCapability } from '../../../../src/block/bitmap-capability.ts';
import { DirtyBitmap } from '../../../../src/block/dirty-bitmap.ts';
import { BlockError } from '../../../../src/block/errors.ts';
import type { ErrnoCode } from '../../../../src/block/errors.ts';
import type { BitPages } from '../../../../src/util/bit-pages.ts';
import type { DiskParts } from '../disk.ts';
import { ExtensionType } from '../extensions.ts';
import type { Image } from '../image.ts';
import { Mutex } from '../mutex.ts';
import {
  BitmapFlag,
  BITMAPS_MAX,
  BITMAP_NAME_MAX,
  DIRECTORY_MAX,
  encodeBitmapExtension,
  encodeDirectory,
  encodeTable,
  entrySize,
  Piece,
} from './directory.ts';
import type { DirectoryPlace } from './directory.ts';
import { entryOf, takenBy } from './list.ts';
import type { BitmapPlace, BitmapRecord } from './list.ts';
import { BITMAP_BYTES_MAX, BITMAPS_BYTES_MAX } from './load.ts';
import { NewClusters } from './new-clusters.ts';

/** Header extension with its head. */
const EXTENSION_SIZE = 32;
const CLUSTERS_AT_ONCE = 256;

/** What the directory is to say of a bitmap; without a place: nothing yet. */
interface Planned {
  readonly record: BitmapRecord;
  readonly place: BitmapPlace | undefined;
  readonly flags: number;
}

/** Contract: BitmapCapability. */
export class BitmapStore implements BitmapCapability {
  private readonly disk: () => DiskParts;
  private readonly turns = new Mutex();

  /** @param disk the parts as they are now: a reopen changes them */
  constructor(disk: () => DiskParts) {
    this.disk = disk;
  }

  list(): DirtyBitmap[] {
    return this.disk().bitmaps.records.map(({ bitmap }) => bitmap);
  }

  add(bitmap: DirtyBitmap): void {
    const { bitmaps } = this.disk();
    this.refuseNew(bitmap);
    bitmap.persistent = true;
    const nameBytes = Buffer.from(bitmap.name);
    const flags = bitmap.inconsistent ? BitmapFlag.inUse : 0;
    bitmaps.records.push({ bitmap, nameBytes, extra: Buffer.alloc(0), flags, place: undefined });
  }

  remove(bitmap: DirtyBitmap): Promise<void> {
    return this.turns.run(async () => {
      const { bitmaps } = this.disk();
      const record = bitmaps.find(bitmap);
      if (record === undefined) return;
      const rest = bitmaps.records.filter((other) => other !== record);
      const isOnDisk = record.place !== undefined || bitmap.inconsistent;
      if (isOnDisk) await this.write(rest, false);
      else bitmaps.records = rest;
    });
  }

  changing(bitmap: DirtyBitmap): Promise<void> {
    return this.markAll((record) => record.bitmap === bitmap);
  }

  /** Before the disk gets another size. Throws where a bitmap would become too large. */
  async resizing(size: number): Promise<void> {
    let bytes = 0;
    for (const { bitmap } of this.disk().bitmaps.records) {
      if (bitmap.inconsistent) continue;
      const own = DirtyBitmap.bytesFor(size, bitmap.granularity);
      bytes += own;
      if (own <= BITMAP_BYTES_MAX && bytes <= BITMAPS_BYTES_MAX) continue;
      throw this.error('EFBIG', `resize image`, `bitmap "${bitmap.name}" would take ${tooMany(own, bytes)}`);
    }
    await this.markAll(() => true);
  }

  /** What is newer in memory is on disk when this resolves. To be called with nothing under way. */
  store(): Promise<boolean> {
    return this.turns.run(async () => {
      const { bitmaps, writer } = this.disk();
      if (writer === undefined || !bitmaps.needsStore) return false;
      await this.write(bitmaps.records, true);
      return true;
    });
  }

  private markAll(chosen: (record: BitmapRecord) => boolean): Promise<void> {
    return this.turns.run(async () => {
      const { image, bitmaps, writer } = this.disk();
      if (writer === undefined) throw this.error('EROFS', 'change bitmaps of image', 'it is open read-only');
      image.requireSound();
      await bitmaps.mark(image.file, chosen);
    });
  }

  private refuseNew(bitmap: DirtyBitmap): void {
    const { image, area, bitmaps, writer } = this.disk();
    const refuse = (code: ErrnoCode, what: string): never => {
      throw new BlockError(code, what);
    };
    const { version } = image.header.fields;
    if (version < 3) refuse('ENOTSUP', 'Cannot store dirty bitmaps in qcow2 v2 files');
    if (writer === undefined) refuse('EROFS', 'the image is open read-only');
    const nameLength = Buffer.byteLength(bitmap.name);
    if (nameLength > BITMAP_NAME_MAX) refuse('EINVAL', 'Bitmap name too long');
    if (bitmap.name.includes('\0')) refuse('EINVAL', 'Bitmap name must not have a NUL character');
    const { records } = bitmaps;
    if (records.some((record) => record.bitmap.name === bitmap.name))
      refuse('EEXIST', 'Bitmap with the same name is already stored');
    if (records.length >= BITMAPS_MAX)
      refuse('EFBIG', 'Maximum number of persistent bitmaps is already reached');
    const sizes = records.map(({ nameBytes, extra }) => entrySize(nameBytes.length, extra.length));
    const directory = sizes.reduce((sum, size) => sum + size, entrySize(nameLength, 0));
    if (directory > DIRECTORY_MAX) refuse('EFBIG', 'Not enough space in the bitmap directory');
    const own = bitmap.content.byteLength;
    const bytes = records.reduce((sum, record) => sum + record.bitmap.content.byteLength, own);
    if (own > BITMAP_BYTES_MAX || bytes > BITMAPS_BYTES_MAX)
      refuse('EFBIG', `It would take ${tooMany(own, bytes)}, a larger granularity makes it smaller`);
    const isFirst = !area.list.some(({ type }) => type === ExtensionType.bitmaps);
    if (isFirst && !area.hasRoomFor(EXTENSION_SIZE))
      refuse('ENOSPC', 'The first cluster has no room for the bitmaps extension');
  }

  /** @param contents also of those that are newer in memory; otherwise they go on being in use */
  private async write(records: readonly BitmapRecord[], contents: boolean): Promise<void> {
    const { image, writer, bitmaps } = this.disk();
    if (writer === undefined) throw this.error('EROFS', 'change bitmaps of image', 'it is open read-only');
    await image.prepareTables();
    const clusters = new NewClusters(image, writer);
    const planned: Planned[] = [];
    let directory: DirectoryPlace | undefined;
    try {
      for (const record of records) planned.push(await plan(image, clusters, record, contents));
      directory = await writeDirectory(clusters, planned);
      await writer.writeback.flushAll();
    } catch (error) {
      await clusters.giveBack();
      throw error;
    }
    await this.publish(directory);
    const old = [...replaced(bitmaps.records, planned)].flatMap(({ place, bitmap }) =>
      place === undefined ? [] : [...takenBy(place, bitmap.name, image.geometry.clusterSize)],
    );
    if (bitmaps.directory !== undefined) old.push({ ...bitmaps.directory, what: 'the bitmap directory' });
    for (const { record, place, flags } of planned) {
      record.place = place;
      record.flags = flags;
    }
    bitmaps.adopt(
      planned.map(({ record }) => record),
      directory,
    );
    writer.metadata.forget();
    const { clusterSize } = image.geometry;
    for (const { offset, length } of old)
      writer.frees.add(offset / clusterSize, Math.ceil(length / clusterSize), 'other');
    image.promisedAgain();
  }

  private async publish(directory: DirectoryPlace | undefined): Promise<void> {
    const { area, image } = this.disk();
    try {
      if (directory === undefined) await area.removeBitmaps();
      else await area.setBitmaps(encodeBitmapExtension(directory));
    } catch (error) {
      const text = `Cannot store bitmaps in image "${image.subject}": the header may name either of two directories`;
      const failure = new BlockError('EIO', text, {}, error);
      image.refuseWrites(failure);
      throw failure;
    }
  }

  private error(code: ErrnoCode, action: string, why: string): BlockError {
    return new BlockError(code, `Cannot ${action} "${this.disk().image.subject}": ${why}`);
  }
}

const tooMany = (own: number, all: number): string =>
  `${own} bytes of the ${BITMAP_BYTES_MAX} that a bitmap may take, all bitmaps ${all} of ${BITMAPS_BYTES_MAX}`;

/** Records whose place on disk is not named any more. */
function* replaced(before: readonly BitmapRecord[], planned: readonly Planned[]): Generator<BitmapRecord> {
  const kept = new Set(planned.map(({ place }) => place));
  for (const record of before) if (!kept.has(record.place)) yield record;
}

async function plan(
  image: Image,
  clusters: NewClusters,
  record: BitmapRecord,
  contents: boolean,
): Promise<Planned> {
  const { bitmap, place, flags } = record;
  if (bitmap.inconsistent)
    return { record, place: place ?? (await writeTable(clusters, [Piece.zeroes])), flags };
  const isNewer = place === undefined || (flags & BitmapFlag.inUse) !== 0;
  if (!contents || !isNewer) return { record, place, flags };
  const auto = bitmap.enabled ? BitmapFlag.auto : 0;
  const pieces = await writePieces(image, clusters, bitmap.content);
  const stored = await writeTable(clusters, pieces);
  return { record, place: stored, flags: auto | (flags & BitmapFlag.extraCompatible) };
}

async function writePieces(image: Image, clusters: NewClusters, bits: BitPages): Promise<number[]> {
  const { clusterSize } = image.geometry;
  const cluster = Buffer.allocUnsafe(clusterSize);
  const wanted: number[] = [];
  let [set, clear] = [-1, -1];
  const stored = Array.from({ length: Math.max(1, Math.ceil(bits.byteLength / clusterSize)) }, (_, index) => {
    const first = index * clusterSize * 8;
    const end = first + clusterSize * 8;
    if (set < first) set = bits.next(first);
    if (set >= Math.min(end, bits.length)) return Piece.zeroes;
    if (clear < first) clear = bits.nextClear(first);
    if (clear >= end) return Piece.ones;
    wanted.push(index);
    return Piece.zeroes;
  }) as number[];
  for (let at = 0; at < wanted.length;) {
    const { first, count } = await clusters.take(Math.min(CLUSTERS_AT_ONCE, wanted.length - at));
    for (const [step, index] of wanted.slice(at, at + count).entries()) {
      const offset = (first + step) * clusterSize;
      bits.read(cluster, index * clusterSize);
      await clusters.write(cluster, offset);
      stored[index] = offset;
    }
    at += count;
  }
  return stored;
}

async function writeTable(clusters: NewClusters, pieces: readonly number[]): Promise<BitmapPlace> {
  const bytes = encodeTable(pieces);
  const tableOffset = await clusters.takeTable(bytes.length);
  await clusters.write(bytes, tableOffset);
  return { tableOffset, pieces };
}

async function writeDirectory(
  clusters: NewClusters,
  planned: readonly Planned[],
): Promise<DirectoryPlace | undefined> {
  const entries = planned.flatMap(({ record, place, flags }) =>
    place === undefined ? [] : [entryOf(record, place, flags)],
  );
  if (entries.length === 0) return undefined;
  const bytes = encodeDirectory(entries);
  const offset = await clusters.takeTable(bytes.length);
  await clusters.write(bytes, offset);
  return { count: entries.length, length: bytes.length, offset };
}
