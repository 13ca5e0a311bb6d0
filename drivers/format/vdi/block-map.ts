import type { Child } from '../../../src/block/child.ts';
import { damaged } from '../../../src/block/refuse.ts';
import { TablePages } from '../../../src/block/table-pages.ts';
import { Entry } from './header.ts';
import type { VdiHeader } from './header.ts';

const PAGE = 64 * 1024;
const ENTRY = 4;
const PER_PAGE = PAGE / ENTRY;

/** The block map: for each block of the disk the number of the place that holds it, or that it has none. */
export class BlockMap {
  readonly pages: TablePages;
  readonly blocks: number;
  /**
   * Entries are below it. That is the number of blocks, but for an image whose growth was cut off half-way (resize.ts): then
   * as many more as the file has.
   */
  limit: number;
  private readonly subject: string;

  constructor(file: Child, header: VdiHeader, subject: string) {
    this.blocks = header.blocks_in_image;
    this.subject = subject;
    const places = Math.ceil((file.size - header.offset_data) / (header.block_size + header.block_extra));
    this.limit = Math.max(this.blocks, Math.min(places, this.blocks * 2 + 1024));
    this.pages = new TablePages({
      read: (bytes, offset) => file.read(bytes, offset),
      base: header.offset_bmap,
      end: this.blocks * ENTRY,
      pageSize: PAGE,
      unit: 512,
    });
  }

  /** The entry of a block; undefined when its page is not in memory. Throws EIO for an entry that can't be. */
  entry(block: number): number | undefined {
    const value = this.pages.page(block * ENTRY)?.readUInt32LE((block % PER_PAGE) * ENTRY);
    if (value === undefined || value < this.limit || value >= Entry.zero) return value;
    throw this.outOfRange(block, value);
  }

  /** Sets the entry of a block whose page is in memory. */
  set(block: number, value: number): void {
    this.pages.page(block * ENTRY)?.writeUInt32LE(value, (block % PER_PAGE) * ENTRY);
    this.pages.changed(block * ENTRY, ENTRY);
  }

  /** First block behind the page of `block`: how far one look may go. */
  pageEnd(block: number): number {
    return Math.min(this.blocks, (Math.floor(block / PER_PAGE) + 1) * PER_PAGE);
  }

  /** Every block in order, loading as it goes. Only while nobody else uses the map. */
  async each(visit: (block: number, entry: number) => void): Promise<void> {
    for (let block = 0; block < this.blocks;) {
      const end = this.pageEnd(block);
      while (this.entry(block) === undefined) await this.pages.load();
      for (; block < end; block += 1) visit(block, this.entry(block) ?? Entry.unallocated);
    }
  }

  outOfRange(block: number, value: number): Error {
    return damaged(
      this.subject,
      `block map entry ${block} is ${value}`,
      `must be less than ${this.limit}, the blocks of the image`,
    );
  }
}
