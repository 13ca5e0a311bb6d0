/**
 * The block allocation table, [MS-VHDX] 2.5: 64-bit entries, `ratio` payload blocks and then the sector bitmap block that
 * covers them, and so on.
 */
import { damaged } from '../../../src/block/refuse.ts';
import type { TablePages } from '../../../src/block/table-pages.ts';
import { setBits } from '../../../src/util/bits.ts';
import { MIB } from './header.ts';
import type { Metadata } from './metadata.ts';

export const State = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, full: 6, partial: 7 } as const;

const ENTRY = 8;
const WORD = 2 ** 32;
const LSB_FIRST = false;

/** Sectors that one sector bitmap block of 1 MiB describes. */
const BITMAP_SECTORS = 2 ** 23;

export interface Shape {
  readonly blockSize: number;
  readonly blocks: number;
  /** Payload blocks to a sector bitmap block. */
  readonly ratio: number;
  readonly sectorSize: number;
  /** Entries that the table must have. */
  readonly entries: number;
}

export function shapeOf(
  metadata: Pick<Metadata, 'blockSize' | 'diskSize' | 'logicalSectorSize' | 'hasParent'>,
): Shape {
  const { blockSize, diskSize, logicalSectorSize: sectorSize } = metadata;
  const blocks = Math.ceil(diskSize / blockSize);
  const ratio = (BITMAP_SECTORS * sectorSize) / blockSize;
  const bitmaps = Math.ceil(blocks / ratio);
  const entries = metadata.hasParent
    ? bitmaps * (ratio + 1)
    : blocks + Math.max(0, Math.floor((blocks - 1) / ratio));
  return { blockSize, blocks, ratio, sectorSize, entries };
}

export class BlockTable {
  readonly pages: TablePages;
  readonly shape: Shape;
  /** What the last `read` found: state and byte of the file. Fields, so that reading allocates nothing. */
  state = 0;
  offset = 0;
  private readonly base: number;
  private readonly subject: string;
  private readonly fileSize: () => number;
  private knownSize = 0;
  private readonly bitsPerPage: number;

  constructor(
    pages: TablePages,
    shape: Shape,
    table: { offset: number; subject: string; fileSize: () => number },
  ) {
    this.pages = pages;
    this.shape = shape;
    this.base = table.offset;
    this.subject = table.subject;
    this.fileSize = table.fileSize;
    this.bitsPerPage = pages.pageSize * 8;
  }

  /** Reads the entry of a payload block into `state` and `offset`; false when it is not in memory. Throws EIO for a bad one. */
  read(block: number): boolean {
    if (!this.readEntry(this.positionOf(block))) return false;
    const { state } = this;
    if (state < State.full) {
      if (state <= State.unmapped) return true;
      throw damaged(this.subject, `block ${block} has state ${state}`, 'must be 0 to 3, 6 or 7');
    }
    if (this.isInside()) return true;
    throw damaged(
      this.subject,
      `block ${block} begins at byte ${this.offset}`,
      `must be inside the file of ${this.fileSize()} bytes`,
    );
  }

  set(block: number, state: number, offset: number): void {
    this.setEntry(this.positionOf(block), state, offset);
  }

  /** Byte of the file where the sector bitmap block of `block` begins; 0 without one, undefined when not in memory. */
  bitmapBlock(block: number): number | undefined {
    const chunk = Math.floor(block / this.shape.ratio);
    if (!this.readEntry(this.bitmapPosition(chunk))) return undefined;
    if (this.state === State.notPresent) return 0;
    if (this.state === State.full && this.isInside()) return this.offset;
    throw damaged(
      this.subject,
      `sector bitmap block ${chunk} has state ${this.state}, offset ${this.offset}`,
      'must be 0, or 6 and inside the file',
    );
  }

  setBitmapBlock(block: number, offset: number): void {
    this.setEntry(this.bitmapPosition(Math.floor(block / this.shape.ratio)), State.full, offset);
  }

  /** Where in the file the bits of a block begin, inside a page, when its bitmap block begins at `bitmap`. */
  bitsPosition(block: number, bitmap: number): number {
    return bitmap + (block % this.shape.ratio) * (this.shape.blockSize / this.shape.sectorSize / 8);
  }

  /** The number, in the page of `position`, of the bit that stands first there. */
  firstBit(position: number): number {
    return (position * 8) % this.bitsPerPage;
  }

  /** Marks sectors [from, to) of a block as present. Its page is in memory. */
  setSectors(position: number, from: number, to: number): void {
    const page = this.pages.page(position);
    if (page === undefined) return;
    const first = this.firstBit(position);
    setBits(page, first + from, first + to, LSB_FIRST);
    this.pages.changed(position + Math.floor(from / 8), Math.ceil(to / 8) - Math.floor(from / 8));
  }

  clearSectors(position: number): void {
    const length = this.shape.blockSize / this.shape.sectorSize / 8;
    const at = position % this.pages.pageSize;
    this.pages.page(position)?.fill(0, at, at + length);
    this.pages.changed(position, length);
  }

  /** First block whose entry may lie in another page than that of `block`: how far one look goes. */
  pageEnd(block: number): number {
    const position = this.positionOf(block);
    const left = (this.pages.pageSize - (position % this.pages.pageSize)) / ENTRY;
    const inChunk = this.shape.ratio - (block % this.shape.ratio);
    return Math.min(this.shape.blocks, block + Math.min(left, inChunk));
  }

  /** The byte of the file behind the entries that the table must have. */
  get tableEnd(): number {
    return this.base + this.shape.entries * ENTRY;
  }

  /** Makes entries of no block and no bitmap of what a table of `entries` entries has behind this one. */
  async clearBehind(entries: number): Promise<void> {
    for (let position = this.tableEnd; position < this.base + entries * ENTRY; position += ENTRY) {
      while (!this.readEntry(position)) await this.pages.load();
      if (this.state !== State.notPresent || this.offset !== 0) this.setEntry(position, State.notPresent, 0);
    }
  }

  /** Where in the file the entry of a payload block stands. */
  positionOf(block: number): number {
    return this.base + (block + Math.floor(block / this.shape.ratio)) * ENTRY;
  }

  /** The same for the bitmap block that covers `block`. */
  bitmapPositionOf(block: number): number {
    return this.bitmapPosition(Math.floor(block / this.shape.ratio));
  }

  /** Whether the place just read can be: asks for the size of the file only when it lies behind what was known of it. */
  private isInside(): boolean {
    if (this.offset >= this.knownSize) this.knownSize = this.fileSize();
    return this.offset >= MIB && this.offset < this.knownSize;
  }

  private bitmapPosition(chunk: number): number {
    return this.base + (chunk * (this.shape.ratio + 1) + this.shape.ratio) * ENTRY;
  }

  private readEntry(position: number): boolean {
    const page = this.pages.page(position);
    if (page === undefined) return false;
    const at = position % this.pages.pageSize;
    const low = page.readUInt32LE(at);
    this.state = low & 7;
    this.offset = page.readUInt32LE(at + 4) * WORD + (low - (low % MIB));
    return true;
  }

  private setEntry(position: number, state: number, offset: number): void {
    const page = this.pages.page(position);
    if (page === undefined) return;
    const at = position % this.pages.pageSize;
    page.writeUInt32LE((offset % WORD) + state, at);
    page.writeUInt32LE(Math.floor(offset / WORD), at + 4);
    this.pages.changed(position, ENTRY);
  }
}
