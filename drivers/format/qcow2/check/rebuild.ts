import { BlockError } from '../../../../src/block/errors.ts';
import type { Header } from '../header.ts';
import type { Image } from '../image.ts';
import { refcountMax, writeRefcount } from '../refcount-entry.ts';
import { writeU64 } from '../u64.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import { REFCOUNT_TABLE_MAX } from './stored-refcounts.ts';

type Rebuilt = Pick<Image, 'file' | 'header' | 'subject' | 'geometry'>;

/** Where new refcount structures are. */
export interface NewRefcounts {
  readonly table: Buffer;
  readonly offset: number;
}

/**
 * Writes refcount blocks and a refcount table anew behind everything else, and points the header at them. Where there is no
 * room, or a write fails, the image is as it was.
 * @param counts of all but refcount structures; afterwards it has the new ones too
 * @param more further fields that the header gets with them
 */
export async function rebuildFromScratch(
  image: Rebuilt,
  counts: ClusterCounts,
  more: Partial<Header> = {},
): Promise<NewRefcounts> {
  const { file, header, geometry } = image;
  const { clusterSize } = geometry;
  const size = file.size;
  const start = Math.max(counts.end, Math.ceil(size / clusterSize));
  const layout = layOut(image, counts, start);
  const offset = start * clusterSize;
  const table = Buffer.alloc(layout.tableClusters * clusterSize);
  const end = start + layout.tableClusters + layout.blocks.length;
  for (let cluster = start; cluster < end; cluster += 1) counts.set(cluster, 1);
  try {
    await writeStructures(image, counts, layout, { table, offset });
  } catch (error) {
    await file.resize(size, true).catch(() => undefined);
    throw error;
  }
  const place = { refcount_table_offset: offset, refcount_table_clusters: layout.tableClusters };
  await header.update({ ...more, ...place });
  return { table, offset };
}

async function writeStructures(
  image: Rebuilt,
  counts: ClusterCounts,
  { blocks, tableClusters }: Layout,
  { table, offset }: NewRefcounts,
): Promise<void> {
  const { file, geometry } = image;
  const { clusterSize, blockEntries } = geometry;
  for (const [number, block] of blocks.entries()) {
    const at = offset + (tableClusters + number) * clusterSize;
    writeU64(table, at, block * 8);
    await file.write(blockBytes(image, counts, block * blockEntries), at);
  }
  await file.write(table, offset);
  await file.flush();
}

interface Layout {
  /** Numbers of the blocks needed, those for the new structures included. */
  readonly blocks: readonly number[];
  readonly tableClusters: number;
}

/**
 *   in use: blocks where anything is counted | start: table, blocks | what these need themselves
 */
function layOut({ geometry, subject }: Rebuilt, counts: ClusterCounts, start: number): Layout {
  const { clusterSize, blockEntries } = geometry;
  const tail = Math.floor(start / blockEntries);
  const blocks: number[] = [];
  for (let index = 0; index < tail; index += 1)
    if (counts.anyIn(index * blockEntries, blockEntries)) blocks.push(index);
  const before = blocks.length;
  let tailBlocks = 1;
  for (;;) {
    const tableClusters = Math.ceil(((tail + tailBlocks) * 8) / clusterSize);
    const end = start + tableClusters + before + tailBlocks;
    const wanted = Math.floor((end - 1) / blockEntries) - tail + 1;
    if (wanted > tailBlocks) {
      tailBlocks = wanted;
      continue;
    }
    if (tableClusters * clusterSize > Math.max(REFCOUNT_TABLE_MAX, clusterSize)) {
      const what = `its refcount table would take ${tableClusters * clusterSize} bytes, must be at most ${REFCOUNT_TABLE_MAX}`;
      throw new BlockError('EFBIG', `Cannot repair image "${subject}": ${what}`);
    }
    for (let index = 0; index < tailBlocks; index += 1) blocks.push(tail + index);
    return { blocks, tableClusters };
  }
}

function blockBytes(image: Rebuilt, counts: ClusterCounts, first: number): Buffer {
  const { clusterSize, blockEntries, refcountBits } = image.geometry;
  const bytes = Buffer.alloc(clusterSize);
  for (let entry = 0; entry < blockEntries; entry += 1) {
    const count = counts.get(first + entry);
    if (count === 0) continue;
    if (count > refcountMax(refcountBits)) {
      const what = `cluster ${first + entry} has ${count} references, over what ${refcountBits} bits hold`;
      throw new BlockError('EFBIG', `Cannot repair image "${image.subject}": ${what}`);
    }
    writeRefcount(bytes, entry, refcountBits, count);
  }
  return bytes;
}
