import type { Image } from '../image.ts';
import { readRefcount, writeRefcount } from '../refcount-entry.ts';
import { readU64 } from '../u64.ts';

export const REFCOUNT_TABLE_MAX = 8 * 1024 * 1024;
const RESERVED = 511;

/** What the refcount table has for a range of clusters. `unreadable`: an entry that names no place. */
export type BlockState = 'absent' | 'present' | 'unreadable';

/** Refcounts as they stand on disk, block by block, whatever state they are in. */
export class StoredRefcounts {
  readonly image: Image;
  private readonly table: Buffer;
  /** Byte offset of the block in memory. */
  private loaded = -1;
  private readonly block: Buffer;

  private constructor(image: Image, table: Buffer) {
    this.image = image;
    this.table = table;
    this.block = Buffer.alloc(image.geometry.clusterSize);
  }

  /** Without a table that can be used there are no refcounts. */
  static async load(image: Image): Promise<StoredRefcounts> {
    const { refcount_table_offset: offset } = image.header.fields;
    const length = isTableUsable(image) ? tableLength(image) : 0;
    const table = Buffer.alloc(length);
    if (length > 0) await image.file.read(table, offset);
    return new StoredRefcounts(image, table);
  }

  get blocks(): number {
    return this.table.length / 8;
  }

  /** Refcount blocks that the table names. */
  get present(): number {
    let present = 0;
    for (let index = 0; index < this.blocks; index += 1) if (this.entry(index) !== 0) present += 1;
    return present;
  }

  /** The entry as it stands: byte offset of a block, and bits that must be 0; NaN over 2^53. */
  entry(index: number): number {
    return index < this.blocks ? readU64(this.table, index * 8) : 0;
  }

  state(index: number): BlockState {
    const entry = this.entry(index);
    if (entry === 0) return 'absent';
    const offset = entry - (entry % (RESERVED + 1));
    return offset % this.image.geometry.clusterSize === 0 ? 'present' : 'unreadable';
  }

  /** Makes `get` answer for the clusters of a block that is present. Past the end of the file it is all zeroes. */
  async loadBlock(index: number): Promise<void> {
    const entry = this.entry(index);
    const offset = entry - (entry % (RESERVED + 1));
    if (this.loaded === offset) return;
    this.loaded = -1;
    await this.image.file.read(this.block, offset);
    this.loaded = offset;
  }

  /** The refcount of entry `entry` of the loaded block. */
  get(entry: number): number {
    const count = readRefcount(this.block, entry, this.image.geometry.refcountBits);
    return Number.isNaN(count) ? Number.MAX_SAFE_INTEGER : count;
  }

  /** The refcounts of the loaded block from its start on, as many as `out` takes. */
  copy(out: Float64Array): void {
    const { refcountBits } = this.image.geometry;
    const { block } = this;
    if (refcountBits !== 16) for (let entry = 0; entry < out.length; entry += 1) out[entry] = this.get(entry);
    else
      for (let entry = 0; entry < out.length; entry += 1)
        out[entry] = ((block[entry * 2] ?? 0) << 8) | (block[entry * 2 + 1] ?? 0);
  }

  /** Changes one of the loaded block, in memory. */
  change(entry: number, count: number): void {
    writeRefcount(this.block, entry, this.image.geometry.refcountBits, count);
  }

  async writeBlock(): Promise<void> {
    await this.image.file.write(Buffer.from(this.block), this.loaded);
  }

  /** The refcount of any cluster; undefined where it can't be read. */
  async read(cluster: number): Promise<number | undefined> {
    const { blockEntries } = this.image.geometry;
    const index = Math.floor(cluster / blockEntries);
    const state = this.state(index);
    if (state !== 'present') return state === 'absent' ? 0 : undefined;
    await this.loadBlock(index);
    return this.get(cluster % blockEntries);
  }
}

function tableLength(image: Image): number {
  return image.header.fields.refcount_table_clusters * image.geometry.clusterSize;
}

/** Whether the header's words about the refcount table can be meant. */
export function isTableUsable(image: Image): boolean {
  const { refcount_table_offset: offset } = image.header.fields;
  const { clusterSize } = image.geometry;
  const isSmall = tableLength(image) <= Math.max(REFCOUNT_TABLE_MAX, clusterSize);
  return isSmall && offset >= clusterSize && offset % clusterSize === 0;
}
