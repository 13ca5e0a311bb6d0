/**
 * Many changes of the metadata that become true at once, by one write of the header:
 *
 *     everything written back -> new tables and refcounts in free clusters -> flush -> header names them -> old ones freed
 *
 * Before that write, and after an error, the image is as it was. Nothing may use the disk meanwhile.
 */
import { BlockError } from '../../../../src/block/errors.ts';
import type { Reader, Writer } from '../build.ts';
import type { Header } from '../header.ts';
import type { Image } from '../image.ts';
import type { SnapshotList, SnapshotTable } from '../snapshots.ts';
import { ShadowRefcounts } from './shadow-refcounts.ts';

export interface SwitchParts {
  readonly image: Image;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly snapshots: SnapshotList;
}

/** What the header is to name besides the refcount table. What is left out stays. */
export interface NewMetadata {
  /** The active L1 table. */
  readonly l1?: { readonly bytes: Buffer; readonly offset: number };
  readonly snapshots?: SnapshotTable & { readonly offset: number };
  /** Bytes of the disk. */
  readonly size?: number;
}

/** @param action for messages: `create a snapshot` */
export async function switchMetadata(
  parts: SwitchParts,
  action: string,
  prepare: (counts: ShadowRefcounts) => Promise<NewMetadata>,
): Promise<void> {
  const { image, writer } = parts;
  while (!image.tryPrepare()) await image.need.load();
  await writeTables(writer);
  await writer.writeback.exclusively(() => switchOver(parts, action, prepare));
  await writer.writeback.flush();
}

/** What the file says of the disk is what is so; as long as nothing uses the disk. */
export async function writeTables(writer: Writer): Promise<void> {
  await writer.writeback.flush();
  await writer.release.idle();
  await writer.writeback.flushAll();
}

async function switchOver(
  parts: SwitchParts,
  action: string,
  prepare: (counts: ShadowRefcounts) => Promise<NewMetadata>,
): Promise<void> {
  const { image, writer } = parts;
  const { refcounts, metadata, allocator } = writer;
  image.requireSound();
  const counts = new ShadowRefcounts(image, { refcounts, metadata, from: allocator.lowestFree, action });
  try {
    const next = await prepare(counts);
    const table = await counts.finish();
    await image.file.flush();
    await publish(image, action, fieldsOf(next, table, image.geometry.clusterSize));
    adopt(parts, next, table);
  } finally {
    allocator.mayBeWritten(counts.end);
  }
  for (const { first, count, reason } of counts.frees) writer.frees.add(first, count, reason);
  await metadata.loadInactive();
}

interface NewTable {
  readonly bytes: Buffer;
  readonly offset: number;
}

function fieldsOf(next: NewMetadata, table: NewTable, clusterSize: number): Partial<Header> {
  const { l1, snapshots, size } = next;
  return {
    refcount_table_offset: table.offset,
    refcount_table_clusters: table.bytes.length / clusterSize,
    ...(l1 === undefined ? {} : { l1_table_offset: l1.offset, l1_size: l1.bytes.length / 8 }),
    ...(snapshots === undefined
      ? {}
      : { snapshots_offset: snapshots.offset, nb_snapshots: snapshots.snapshots.length }),
    ...(size === undefined ? {} : { size }),
  };
}

async function publish(image: Image, action: string, fields: Partial<Header>): Promise<void> {
  try {
    await image.header.update(fields);
  } catch (error) {
    const text = `Cannot ${action} of image "${image.subject}": the header may name either of two sets of tables`;
    const failure = new BlockError('EIO', text, {}, error);
    image.refuseWrites(failure);
    throw failure;
  }
}

/** The caches hold nothing dirty. */
function adopt(parts: SwitchParts, next: NewMetadata, table: NewTable): void {
  const { image, reader, writer, snapshots } = parts;
  writer.refcounts.table.moveTo(table.bytes, table.offset);
  writer.refcounts.store.cache.clear();
  if (next.l1 !== undefined) {
    reader.l1.moveTo(next.l1.bytes, next.l1.offset);
    reader.l2.store.cache.clear();
  }
  if (next.snapshots !== undefined) snapshots.replace(next.snapshots);
  if (next.size !== undefined) image.size = next.size;
  writer.metadata.forget();
  writer.frees.shared = -1;
}
