import type { Child } from '../../../src/block/child.ts';
import { damaged, refuseImage } from '../../../src/block/refuse.ts';
import { TablePages } from '../../../src/block/table-pages.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { DynamicHeader } from './dynamic-header.ts';

const SECTOR = 512;
const PAGE = 64 * 1024;
const ENTRY = 4;
const PER_PAGE = PAGE / ENTRY;
const UNUSED = 0xffffffff;
/** A table larger than this (64 MiB) is not looked through for places that overlap: such an image is only read. */
const ENTRIES_MAX = 16 * 1024 * 1024;

/** Footer copy and dynamic header come first. */
const FIRST_PLACE = 1536;

/** What `place` answers for a block without one. */
export const NO_PLACE = -1;
/** Places begin below this: a sector number of 32 bits, the last of which means "none". */
export const PLACE_LIMIT = (UNUSED - 1) * SECTOR;

/** The block allocation table: for each block of the disk the sector of the file where its bitmap stands, its data behind. */
export class BlockTable {
  readonly pages: TablePages;
  readonly blocks: number;
  private readonly subject: string;
  private readonly file: Child;
  private readonly header: DynamicHeader;
  /** Size of the file as far as it was asked for. */
  private knownSize = 0;

  constructor(file: Child, header: DynamicHeader, subject: string) {
    this.file = file;
    this.blocks = header.max_table_entries;
    this.subject = subject;
    this.header = header;
    this.pages = new TablePages({
      read: (bytes, offset) => file.read(bytes, offset),
      base: header.table_offset,
      end: this.blocks * ENTRY,
      pageSize: PAGE,
      unit: SECTOR,
    });
  }

  /** Byte of the file where a block begins, NO_PLACE, or undefined when that is not in memory. Throws EIO for what can't be. */
  place(block: number): number | undefined {
    const sector = this.pages.page(block * ENTRY)?.readUInt32BE((block % PER_PAGE) * ENTRY);
    if (sector === undefined) return undefined;
    if (sector === UNUSED) return NO_PLACE;
    const place = sector * SECTOR;
    if (place >= this.knownSize) this.knownSize = this.file.size;
    if (place >= SECTOR && place < this.knownSize) return place;
    throw this.outside(block, place);
  }

  set(block: number, place: number): void {
    const sector = place === NO_PLACE ? UNUSED : place / SECTOR;
    this.pages.page(block * ENTRY)?.writeUInt32BE(sector, (block % PER_PAGE) * ENTRY);
    this.pages.changed(block * ENTRY, ENTRY);
  }

  /** First block behind the page of `block`: how far one look may go. */
  pageEnd(block: number): number {
    return Math.min(this.blocks, (Math.floor(block / PER_PAGE) + 1) * PER_PAGE);
  }

  /**
   * For an image that is to be written to: no two blocks overlap, and none covers the table. Throws EIO otherwise.
   * Returns the byte behind the last block, and the table. `step` is the length of a block with its bitmap.
   */
  async check(step: number): Promise<number> {
    if (this.blocks > ENTRIES_MAX) {
      refuseImage(
        this.subject,
        `max_table_entries is ${this.blocks}`,
        `must be at most ${ENTRIES_MAX} for writing`,
        'EFBIG',
      );
    }
    const sectors = await this.usedSectors();
    const { table_offset: table } = this.header;
    const tableEnd = alignUp(table + this.blocks * ENTRY, SECTOR);
    let last = Math.min(table, FIRST_PLACE);
    for (const sector of sectors.sort()) {
      const place = sector * SECTOR;
      const is = `a block begins at byte ${place}`;
      if (place < last)
        throw damaged(this.subject, is, `must be behind the one before it, which ends at ${last}`);
      if (place < tableEnd && place + step > table)
        throw damaged(this.subject, is, `must not reach into the table, from ${table} to ${tableEnd}`);
      last = place + step;
    }
    return Math.max(last, tableEnd);
  }

  private async usedSectors(): Promise<Uint32Array> {
    const sectors = new Uint32Array(this.blocks);
    let count = 0;
    for (let block = 0; block < this.blocks; block += 1) {
      let place = this.place(block);
      while (place === undefined) {
        await this.pages.load();
        place = this.place(block);
      }
      if (place === NO_PLACE) continue;
      sectors[count] = place / SECTOR;
      count += 1;
    }
    return sectors.subarray(0, count);
  }

  private outside(block: number, place: number): Error {
    const is = `block ${block} begins at byte ${place}`;
    return damaged(this.subject, is, `must be inside the file, which ends at ${this.file.size}`);
  }
}
