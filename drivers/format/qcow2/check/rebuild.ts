import { BlockError } from '../../../../src/block/errors.ts';
import type { ExpectedRefcounts } from './expected-refcounts.ts';
import type { Header } from '../header.ts';
import type { Image } from '../image.ts';
import { refcountMax, writeRefcount } from '../refcount-entry.ts';
import { writeU64 } from '../u64.ts';

type Rebuilt = Pick<Image, 'file' | 'header' | 'subject' | 'geometry'>;

/** Where new refcount structures are. */
export interface NewRefcounts {
  readonly table: Buffer;
  readonly offset: number;
}

/**
 * Writes refcount blocks and a refcount table anew behind everything else, and points the header at them. `expected`
 * counts all but refcount structures; afterwards it counts the new ones too.
 * @param more further fields that the header gets with them
 */
export async function rebuildFromScratch(
  image: Rebuilt,
  expected: ExpectedRefcounts,
  more: Partial<Header> = {},
): Promise<NewRefcounts> {
  const { clusterSize, blockEntries } = image.geometry;
  const start = Math.max(expected.end, Math.ceil(image.file.size / clusterSize));
  const layout = layOut(expected, start, image);
  expected.add(start, layout.tableClusters + layout.blocks.length);
  const table = Buffer.alloc(layout.tableClusters * clusterSize);
  for (const [index, block] of layout.blocks.entries()) {
    const offset = (start + layout.tableClusters + index) * clusterSize;
    writeU64(table, offset, block * 8);
    await image.file.write(blockBytes(image, expected, block * blockEntries), offset);
  }
  const offset = start * clusterSize;
  await image.file.write(table, offset);
  await image.file.flush();
  const place = { refcount_table_offset: offset, refcount_table_clusters: layout.tableClusters };
  await image.header.update({ ...more, ...place });
  return { table, offset };
}

/** Numbers of the blocks needed, those for the new structures included, and clusters of the table. */
function layOut(
  expected: ExpectedRefcounts,
  start: number,
  image: Rebuilt,
): { blocks: number[]; tableClusters: number } {
  const { clusterSize, blockEntries } = image.geometry;
  const blocks: number[] = [];
  for (let index = 0; index * blockEntries < start; index += 1) {
    if (expected.anyIn(index * blockEntries, blockEntries)) blocks.push(index);
  }
  for (;;) {
    const last = blocks.at(-1) ?? 0;
    const tableClusters = Math.ceil(((last + 1) * 8) / clusterSize);
    const end = start + tableClusters + blocks.length;
    const missing = firstMissing(
      blocks,
      Math.floor(start / blockEntries),
      Math.floor((end - 1) / blockEntries),
    );
    if (missing < 0) return { blocks, tableClusters };
    blocks.push(missing);
    blocks.sort((a, b) => a - b);
  }
}

function firstMissing(blocks: readonly number[], from: number, to: number): number {
  for (let index = from; index <= to; index += 1) if (!blocks.includes(index)) return index;
  return -1;
}

function blockBytes(image: Rebuilt, expected: ExpectedRefcounts, first: number): Buffer {
  const { clusterSize, blockEntries, refcountBits } = image.geometry;
  const bytes = Buffer.alloc(clusterSize);
  for (let entry = 0; entry < blockEntries; entry += 1) {
    const count = expected.get(first + entry);
    if (count === 0) continue;
    if (count > refcountMax(refcountBits)) {
      const what = `cluster ${first + entry} has ${count} references, over what ${refcountBits} bits hold`;
      throw new BlockError('EFBIG', `Cannot repair image "${image.subject}": ${what}`);
    }
    writeRefcount(bytes, entry, refcountBits, count);
  }
  return bytes;
}
