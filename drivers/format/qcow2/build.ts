/** Puts the parts of an open image together; each knows only those it is given. */
import { BlockError } from '../../../src/block/errors.ts';
import { StandardAllocate } from './allocate.ts';
import { ExtendedAllocate } from './allocate-extended.ts';
import type { BitmapList } from './bitmap/list.ts';
import { Allocator } from './allocator.ts';
import { isTableUsable } from './check/stored-refcounts.ts';
import { CompressedReader } from './compressed.ts';
import { CompressedWriter } from './compressed-write.ts';
import { DataDiscards } from './data-discards.ts';
import { Frees } from './frees.ts';
import type { DiscardPolicy } from './frees.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Image } from './image.ts';
import { L1Table } from './l1-table.ts';
import { dataOverlaps } from './data-overlaps.ts';
import { L2Cache } from './l2-cache.ts';
import type { L2CacheOptions } from './l2-cache.ts';
import type { MetadataKind } from './overlap-modes.ts';
import { L2Tables } from './l2-tables.ts';
import { StandardMap } from './map.ts';
import { ExtendedMap } from './map-extended.ts';
import { MetadataClusters } from './metadata-clusters.ts';
import type { CacheSizes } from './options.ts';
import { RefcountGrowth } from './refcount-growth.ts';
import { RefcountTable } from './refcount-table.ts';
import { Refcounts } from './refcounts.ts';
import { Release } from './release.ts';
import type { SnapshotTable } from './snapshots.ts';
import { Writeback } from './writeback.ts';
import { StandardZero } from './zero.ts';
import { ExtendedZero } from './zero-extended.ts';

const VIEW_CACHE_BYTES = 2 * 1024 * 1024;
const VIEW_SLICES_MIN = 64;

export interface Reader {
  readonly l1: L1Table;
  readonly l2: L2Cache;
  readonly map: StandardMap | ExtendedMap;
  readonly compressed: CompressedReader;
}

export interface Writer {
  readonly allocate: StandardAllocate | ExtendedAllocate;
  readonly zero: StandardZero | ExtendedZero;
  readonly compressed: CompressedWriter;
  readonly growth: RefcountGrowth;
  readonly metadata: MetadataClusters;
  readonly frees: Frees;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly writeback: Writeback;
  readonly release: Release;
  readonly housekeeping: Housekeeping;
}

/**
 * An image that is only read: nothing ever is dirty.
 * @param l1 the L1 table of a snapshot; the active one when left out
 */
export async function buildReader(
  image: Image,
  { sizes, repairs }: { readonly sizes: CacheSizes; readonly repairs: boolean },
  l1?: Buffer,
): Promise<Reader> {
  const table = l1 === undefined ? await readL1(image, repairs) : new L1Table(image, l1, 0);
  return readerOf(image, table, { capacity: sizes.slices, makeRoom: () => Promise.resolve() });
}

/** A snapshot of an image that is open; its tables do not change. */
export function viewReader(
  image: Image,
  view: { readonly l1: Buffer; readonly offset: number; readonly size: number },
): Reader {
  const l1 = new L1Table(image, view.l1, view.offset);
  const capacity = Math.max(VIEW_SLICES_MIN, VIEW_CACHE_BYTES / image.geometry.sliceSize);
  const l2 = new L2Cache(image, l1, { capacity, makeRoom: () => Promise.resolve() });
  return { l1, l2, map: mapOf(image, l2), compressed: new CompressedReader(image, l2, () => view.size) };
}

function readerOf(image: Image, l1: L1Table, options: L2CacheOptions, metadata?: MetadataClusters): Reader {
  const l2 = new L2Cache(image, l1, options);
  return { l1, l2, map: mapOf(image, l2, metadata), compressed: new CompressedReader(image, l2) };
}

function mapOf(image: Image, l2: L2Cache, metadata?: MetadataClusters): Reader['map'] {
  const { extendedL2 } = image.geometry;
  return extendedL2 ? new ExtendedMap(image, l2, metadata) : new StandardMap(image, l2, metadata);
}

export interface WriterOptions {
  readonly sizes: CacheSizes;
  /** Tables may be where none can be: a repair looks at them by itself. */
  readonly repairs?: boolean;
  readonly snapshots: SnapshotTable;
  readonly bitmaps?: BitmapList;
  readonly policy: DiscardPolicy;
  /** Discarded clusters keep their places. */
  readonly keepsPlaces?: boolean;
  /** Tables that writes are checked not to hit; the usual ones when left out. */
  readonly overlap?: ReadonlySet<MetadataKind>;
}

export async function buildWriter(
  image: Image,
  parts: WriterOptions,
): Promise<{ reader: Reader; writer: Writer }> {
  const l1 = await readL1(image, parts.repairs ?? false);
  const table = await readRefcountTable(image, parts.repairs ?? false);
  const makeRoom = () => writeback.flush();
  const refcounts = new Refcounts(image, table, { capacity: parts.sizes.pages, makeRoom });
  const metadata = new MetadataClusters(image, { ...parts, l1, refcountTable: table });
  await metadata.loadInactive();
  const loaded = dataOverlaps(image, metadata);
  const reader = readerOf(image, l1, { capacity: parts.sizes.slices, makeRoom, loaded }, metadata);
  const housekeeping = new Housekeeping(image.subject, makeRoom);
  const freed = () => {
    housekeeping.freed(release.pending);
  };
  const frees = new Frees(parts.policy, freed, (first, count) => metadata.mayHoldData(first, count));
  const dataDiscards = new DataDiscards(image.need, freed);
  const growth: RefcountGrowth = new RefcountGrowth(image, {
    refcounts,
    metadata,
    frees,
    allocator: () => allocator,
    writeback: () => writeback,
  });
  const allocator = new Allocator(image, { refcounts, metadata, cover: (cluster) => growth.cover(cluster) });
  const release = new Release(image, { frees, dataDiscards, refcounts, allocator });
  const writeback: Writeback = new Writeback({
    image,
    l1,
    slices: reader.l2.store,
    pages: refcounts.store,
    refcountTable: table,
    release,
    metadata,
  });
  const tables = new L2Tables(image, { l1, l2: reader.l2, allocator, metadata, frees });
  const { keepsPlaces = false } = parts;
  const writing = { image, l2: reader.l2, tables, allocator, frees, dataDiscards, keepsPlaces };
  const { extendedL2 } = image.geometry;
  const allocate = extendedL2 ? new ExtendedAllocate(writing) : new StandardAllocate(writing);
  const zero = extendedL2 ? new ExtendedZero(writing) : new StandardZero(writing);
  const compressed = new CompressedWriter({ ...writing, refcounts, compressed: reader.compressed });
  return {
    reader,
    writer: {
      allocate,
      zero,
      compressed,
      growth,
      metadata,
      frees,
      refcounts,
      allocator,
      writeback,
      release,
      housekeeping,
    },
  };
}

async function readL1(image: Image, repairs: boolean): Promise<L1Table> {
  const { l1_table_offset: offset, l1_size: entries } = image.header.fields;
  if (entries > 0 && !repairs) requireInside(image, 'l1_table_offset', offset);
  const bytes = Buffer.alloc(entries * 8);
  if (entries > 0) await image.file.read(bytes, offset);
  return new L1Table(image, bytes, offset);
}

async function readRefcountTable(image: Image, repairs: boolean): Promise<RefcountTable> {
  const { refcount_table_offset: offset, refcount_table_clusters: clusters } = image.header.fields;
  if (repairs && !isTableUsable(image)) return new RefcountTable(image, Buffer.alloc(0), 0);
  if (!repairs) requireInside(image, 'refcount_table_offset', offset);
  const bytes = Buffer.alloc(clusters * image.geometry.clusterSize);
  await image.file.read(bytes, offset);
  return new RefcountTable(image, bytes, offset);
}

function requireInside(image: Image, field: string, offset: number): void {
  const { size } = image.file;
  if (offset < size) return;
  const what = `${field} is ${offset}, must be inside the file, which has ${size} bytes`;
  throw new BlockError('EINVAL', `Cannot open image "${image.subject}": ${what}`);
}
