import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { Allocator } from './allocator.ts';
import type { Frees } from './frees.ts';
import type { Image } from './image.ts';
import type { MetadataClusters } from './metadata-clusters.ts';
import { writeRefcount } from './refcount-entry.ts';
import type { Refcounts } from './refcounts.ts';
import { writeU64 } from './u64.ts';
import type { Writeback } from './writeback.ts';

const TABLE_MAX = 8 * 1024 * 1024;

export interface RefcountGrowthParts {
  readonly refcounts: Refcounts;
  readonly metadata: MetadataClusters;
  readonly frees: Frees;
  readonly allocator: () => Allocator;
  readonly writeback: () => Writeback;
}

/**
 * Makes refcount blocks, and room for them in the refcount table. A range without a block has no cluster in use, so the
 * block goes to the range's own first cluster and counts itself.
 */
export class RefcountGrowth {
  private readonly image: Image;
  private readonly parts: RefcountGrowthParts;
  private running: Promise<void> | undefined = undefined;

  constructor(image: Image, parts: RefcountGrowthParts) {
    this.image = image;
    this.parts = parts;
  }

  /** Resolves when the cluster is covered. Calls share one run. */
  cover(cluster: number): Promise<void> {
    this.running ??= this.parts
      .writeback()
      .exclusively(() => this.grow(cluster))
      .finally(() => {
        this.running = undefined;
      });
    return this.running;
  }

  /**
   * Takes neighbouring clusters, more than a refcount block counts if it must be: behind everything that is counted.
   * Returns the first one's number.
   */
  async reserve(clusters: number): Promise<number> {
    let first = 0;
    await this.parts.writeback().exclusively(async () => {
      first = await this.reserveAtEnd(clusters);
    });
    return first;
  }

  private async reserveAtEnd(clusters: number): Promise<number> {
    const { blockEntries, clusterSize } = this.image.geometry;
    const { table } = this.parts.refcounts;
    const blocks = Math.ceil(clusters / (blockEntries - 1));
    let index = table.length;
    while (index > 0 && table.blockOffset(index - 1) === 0) index -= 1;
    if (index + blocks > table.length) {
      await this.moveTable(blocks);
      return this.reserveAtEnd(clusters);
    }
    const first = index * blockEntries;
    for (let number = 0; number < blocks + clusters; number += 1) this.parts.metadata.refuse(first + number);
    for (let block = 0; block < blocks; block += 1) {
      const offset = (first + block) * clusterSize;
      await this.image.file.write(this.blockBytes(block, blocks + clusters), offset);
    }
    for (let block = 0; block < blocks; block += 1) table.set(index + block, (first + block) * clusterSize);
    this.parts.metadata.add(first * clusterSize, blocks * clusterSize, 'a refcount block');
    return first + blocks;
  }

  private async grow(cluster: number): Promise<void> {
    const { refcounts } = this.parts;
    const block = Math.floor(cluster / this.image.geometry.blockEntries);
    if (refcounts.isCovered(cluster)) return;
    if (block < refcounts.table.length) await this.addBlock(block);
    else await this.moveTable();
  }

  private async addBlock(block: number): Promise<void> {
    const { image } = this;
    const { blockEntries, clusterSize, pageSize, refcountBits, pagesPerBlock } = image.geometry;
    const first = block * blockEntries;
    const offset = first * clusterSize;
    this.parts.metadata.refuse(first);
    const page = Buffer.alloc(pageSize);
    writeRefcount(page, 0, refcountBits, 1);
    if (!this.parts.allocator().isFresh(offset)) await image.file.writeZeroes(offset, clusterSize);
    await image.file.write(page, offset);
    const { refcounts, metadata } = this.parts;
    refcounts.table.set(block, offset);
    refcounts.store.cache.insert(block * pagesPerBlock, page);
    metadata.add(offset, clusterSize, 'a refcount block');
  }

  /**
   * A larger table behind everything that is counted, after the blocks that count it:
   *
   *   old range | block 0 .. block B-1 | table, T clusters | free
   */
  private async moveTable(spare = 0): Promise<void> {
    const { image } = this;
    const { blockEntries, clusterSize } = image.geometry;
    const { table } = this.parts.refcounts;
    const { clusters, blocks } = this.newSize(spare);
    const first = table.length * blockEntries;
    for (let index = 0; index < blocks + clusters; index += 1) this.parts.metadata.refuse(first + index);
    const bytes = table.grown(clusters * clusterSize);
    for (let index = 0; index < blocks; index += 1) {
      const offset = (first + index) * clusterSize;
      writeU64(bytes, offset, (table.length + index) * 8);
      await image.file.write(this.blockBytes(index, blocks + clusters), offset);
    }
    const offset = (first + blocks) * clusterSize;
    await image.file.write(bytes, offset);
    await image.file.flush();
    await this.publish(offset, clusters);
    this.adopt(bytes, offset, blocks);
  }

  private async publish(offset: number, clusters: number): Promise<void> {
    try {
      await this.image.header.update({ refcount_table_offset: offset, refcount_table_clusters: clusters });
    } catch (error) {
      const text = `Cannot write to image "${this.image.subject}": the header may name either of two refcount tables`;
      const failure = new BlockError('EIO', text, {}, error);
      this.image.refuseWrites(failure);
      throw failure;
    }
  }

  private adopt(bytes: Buffer, offset: number, blocks: number): void {
    const { clusterSize, blockEntries } = this.image.geometry;
    const { refcounts, metadata, frees } = this.parts;
    const { table } = refcounts;
    const first = table.length * blockEntries;
    const old = { offset: table.offset, length: table.byteLength };
    table.moveTo(bytes, offset);
    metadata.add(first * clusterSize, blocks * clusterSize, 'a refcount block');
    metadata.add(offset, bytes.length, 'the refcount table');
    metadata.remove(old.offset, old.length);
    frees.add(old.offset / clusterSize, Math.ceil(old.length / clusterSize), 'other');
  }

  /** Clusters of a table half as large again and with `spare` entries, and the new blocks that count it and themselves. */
  private newSize(spare: number): { clusters: number; blocks: number } {
    const { blockEntries, clusterSize } = this.image.geometry;
    const { length } = this.parts.refcounts.table;
    let entries = Math.ceil(length * 1.5) + spare;
    for (;;) {
      const clusters = alignUp(entries * 8, clusterSize) / clusterSize;
      const blocks = Math.ceil(clusters / (blockEntries - 1));
      if (clusters * clusterSize > Math.max(TABLE_MAX, clusterSize)) {
        const what = `the refcount table would take ${clusters * clusterSize} bytes, must be at most ${TABLE_MAX}`;
        throw new BlockError('EFBIG', `Cannot grow image "${this.image.subject}": ${what}`);
      }
      if ((clusters * clusterSize) / 8 >= length + blocks + spare) return { clusters, blocks };
      entries = length + blocks + spare;
    }
  }

  /** Block `index` of the new ones, where the first `used` clusters of the range have a refcount of 1. */
  private blockBytes(index: number, used: number): Buffer {
    const { blockEntries, clusterSize, refcountBits } = this.image.geometry;
    const bytes = Buffer.alloc(clusterSize);
    const count = Math.min(blockEntries, used - index * blockEntries);
    for (let entry = 0; entry < count; entry += 1) writeRefcount(bytes, entry, refcountBits, 1);
    return bytes;
  }
}
