import type { Child } from '../../../../src/block/child.ts';
import type { DirtyBitmap } from '../../../../src/block/dirty-bitmap.ts';
import { BitmapFlag, encodeDirectory } from './directory.ts';
import type { BitmapEntry, DirectoryPlace } from './directory.ts';

/** Where a bitmap stands in the file. */
export interface BitmapPlace {
  readonly tableOffset: number;
  /** Of each piece: see parseTable. */
  readonly pieces: readonly number[];
}

/** A bitmap of an open image. */
export interface BitmapRecord {
  readonly bitmap: DirtyBitmap;
  readonly nameBytes: Buffer;
  readonly extra: Buffer;
  /** As the directory on disk has them. */
  flags: number;
  /** Undefined while the directory on disk does not name it. */
  place: BitmapPlace | undefined;
}

/** Clusters that tables take, for whoever has to know them all. */
export interface TakenRange {
  readonly offset: number;
  readonly length: number;
  readonly what: string;
}

/**
 * The bitmaps of an open image, in the order of their directory, and what the disk says of them:
 *
 *     loaded, clean --- before the first change that it notes ---> in_use on disk --- stored ---> clean
 *
 * One that notes nothing is not touched: it outlives a crash of the server.
 */
export class BitmapList {
  records: BitmapRecord[];
  /** Undefined: the image has none, or one that is not to be trusted and stays as it is until bitmaps are stored. */
  directory: DirectoryPlace | undefined;
  /** An attempt to mark bitmaps has failed: what the disk says is not known. */
  private unsure = false;

  constructor(records: BitmapRecord[], directory: DirectoryPlace | undefined) {
    this.records = records;
    this.directory = directory;
  }

  /** A change of the disk's content would make the image lie. */
  get isUnmarked(): boolean {
    return this.unsure || this.records.some((record) => isStale(record));
  }

  /** Something in memory is newer than on disk. */
  get needsStore(): boolean {
    return this.records.some(
      ({ bitmap, flags, place }) =>
        !bitmap.inconsistent && (place === undefined || (flags & BitmapFlag.inUse) !== 0),
    );
  }

  find(bitmap: DirtyBitmap): BitmapRecord | undefined {
    return this.records.find((record) => record.bitmap === bitmap);
  }

  /** Says on disk, for good, that those which note writes are in use. */
  markNoting(file: Child): Promise<void> {
    return this.mark(file, isStale);
  }

  /** The same for all that `chosen` holds for; those that are not on disk need nothing. */
  async mark(file: Child, chosen: (record: BitmapRecord) => boolean): Promise<void> {
    const marked = this.records.filter((record) => chosen(record) && isClean(record));
    if (marked.length === 0 && !this.unsure) return;
    for (const record of marked) record.flags |= BitmapFlag.inUse;
    const { directory } = this;
    if (directory === undefined) return;
    this.unsure = true;
    await file.write(encodeDirectory(this.entriesOnDisk()), directory.offset);
    await file.flush();
    this.unsure = false;
  }

  /** Another directory is on disk. */
  adopt(records: BitmapRecord[], directory: DirectoryPlace | undefined): void {
    this.records = records;
    this.directory = directory;
    this.unsure = false;
  }

  /** Of the directory, the tables and the pieces. */
  *taken(clusterSize: number): Generator<TakenRange> {
    const { directory } = this;
    if (directory !== undefined) yield { ...directory, what: 'the bitmap directory' };
    for (const { bitmap, place } of this.records)
      if (place !== undefined) yield* takenBy(place, bitmap.name, clusterSize);
  }

  private entriesOnDisk(): BitmapEntry[] {
    return this.records.flatMap((record) =>
      record.place === undefined ? [] : [entryOf(record, record.place)],
    );
  }
}

export function* takenBy(place: BitmapPlace, name: string, clusterSize: number): Generator<TakenRange> {
  const length = place.pieces.length * 8;
  yield { offset: place.tableOffset, length, what: `the table of bitmap "${name}"` };
  for (const offset of place.pieces)
    if (offset > 1) yield { offset, length: clusterSize, what: `a piece of bitmap "${name}"` };
}

export function entryOf(record: BitmapRecord, place: BitmapPlace, flags = record.flags): BitmapEntry {
  const { bitmap, nameBytes, extra } = record;
  return {
    name: bitmap.name,
    nameBytes,
    extra,
    flags,
    granularity: bitmap.granularity,
    tableOffset: place.tableOffset,
    tableEntries: place.pieces.length,
  };
}

const isClean = ({ flags, place }: BitmapRecord): boolean =>
  place !== undefined && (flags & BitmapFlag.inUse) === 0;

/** On disk it claims to be right, and the next write makes it wrong. */
function isStale(record: BitmapRecord): boolean {
  const { bitmap, flags } = record;
  const notes = bitmap.enabled || (bitmap.inconsistent && (flags & BitmapFlag.auto) !== 0);
  return notes && isClean(record);
}
