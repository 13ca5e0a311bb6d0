import type { Image } from '../image.ts';
import { readRefcount } from '../refcount-entry.ts';
import { readU64 } from '../u64.ts';

/** Refcounts as they stand on disk, block by block, whatever state they are in. */
export class StoredRefcounts {
  readonly image: Image;
  private readonly table: Buffer;
  private loaded = -1;
  private readonly block: Buffer;

  private constructor(image: Image, table: Buffer) {
    this.image = image;
    this.table = table;
    this.block = Buffer.alloc(image.geometry.clusterSize);
  }

  static async load(image: Image): Promise<StoredRefcounts> {
    const { refcount_table_offset: offset, refcount_table_clusters: clusters } = image.header.fields;
    const table = Buffer.alloc(clusters * image.geometry.clusterSize);
    await image.file.read(table, offset);
    return new StoredRefcounts(image, table);
  }

  get blocks(): number {
    return this.table.length / 8;
  }

  /** Byte offset of a block as it stands; 0 without one, NaN over 2^53. */
  blockOffset(index: number): number {
    return index < this.blocks ? readU64(this.table, index * 8) : 0;
  }

  /** Makes `get` answer for the clusters of one block. False where there is none, or none that can be read. */
  async loadBlock(index: number): Promise<boolean> {
    const offset = this.blockOffset(index);
    const { clusterSize } = this.image.geometry;
    if (offset === 0 || offset % clusterSize !== 0 || !(offset < this.image.file.size)) return false;
    if (this.loaded !== index) await this.image.file.read(this.block, offset);
    this.loaded = index;
    return true;
  }

  /** The refcount of entry `entry` of the loaded block. */
  get(entry: number): number {
    return readRefcount(this.block, entry, this.image.geometry.refcountBits);
  }
}
