/**
 * Another size for a VHD. A table that gets too long for its place is written once more, behind everything:
 *
 *     [copy][header][table] ... blocks [footer]
 *     [copy][header][-----] ... blocks [------][table][footer]    table and footer flushed, then the header names the table
 *
 * The footers, which have the size, come last when the disk grows and first when it shrinks. Each of them is right at all
 * times, and so is the header: single sectors change.
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { BlockTable } from './block-table.ts';
import { NO_PLACE, PLACE_LIMIT } from './block-table.ts';
import { CURRENT_SIZE_CREATOR, diskSize, geometryFor, SIZE_MAX } from './disk-size.ts';
import type { SizeCalculation } from './disk-size.ts';
import { encodeHeader, HEADER_LENGTH } from './dynamic-header.ts';
import type { DynamicHeader } from './dynamic-header.ts';
import { encodeFooter, FOOTER_LENGTH } from './footer.ts';
import type { Footer } from './footer.ts';

const SECTOR = 512;
const ENTRY = 4;
const PIECE = 1024 * 1024;
const UNUSED = 0xffffffff;

/** The footer of a disk of `size` bytes. Throws for a size that it can't say. */
export function resizedFooter(
  footer: Footer,
  size: number,
  image: { subject: string; sizeCalculation: SizeCalculation },
): Footer {
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', `Cannot resize "${image.subject}" to ${size} bytes: ${what}`);
  };
  if (size % SECTOR !== 0 || size === 0) refuse('the size must be a multiple of 512, and not 0');
  if (size > SIZE_MAX) refuse(`a VHD has at most ${SIZE_MAX}`);
  const same = { ...footer, current_size: size, ...geometryFor(size) };
  if (diskSize(same, image.sizeCalculation) === size) return same;
  const other = { ...same, creator_app: CURRENT_SIZE_CREATOR };
  if (diskSize(other, image.sizeCalculation) === size) return other;
  return refuse('no geometry has exactly that, and force_size_calc says that the geometry counts');
}

/** Bytes from the start of the table to what may be in use behind it. */
export const tableRoom = (header: DynamicHeader): number => alignUp(header.max_table_entries * ENTRY, SECTOR);

/** A longer table in its place or behind `footerAt`: the header that is to name it, and where the footer is then. */
export async function lengthenTable(
  image: { file: Child; header: DynamicHeader; footer: Footer; subject: string },
  table: BlockTable,
  to: { blocks: number; footerAt: number },
): Promise<{ header: DynamicHeader; footerAt: number }> {
  const { file, header, footer } = image;
  const length = alignUp(to.blocks * ENTRY, SECTOR);
  const inPlace = length <= tableRoom(header);
  const at = inPlace ? header.table_offset : to.footerAt + FOOTER_LENGTH;
  const footerAt = inPlace ? to.footerAt : at + length;
  if (footerAt > PLACE_LIMIT)
    throw new BlockError(
      'ENOSPC',
      `Cannot grow image "${image.subject}": the file would be too large for a VHD`,
    );
  await writeTable(file, table, { at, from: inPlace ? table.blocks : 0, blocks: length / ENTRY });
  if (!inPlace) await file.write(encodeFooter(footer), footerAt);
  await file.flush();
  return { header: { ...header, table_offset: at, max_table_entries: to.blocks }, footerAt };
}

export async function writeHeader(file: Child, header: DynamicHeader, at: number): Promise<void> {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  await file.read(bytes, at);
  encodeHeader(bytes, header);
  await file.write(bytes, at);
  await file.flush();
}

async function writeTable(
  file: Child,
  table: BlockTable,
  to: { at: number; from: number; blocks: number },
): Promise<void> {
  for (let block = to.from; block < to.blocks;) {
    const first = block;
    const end = Math.min(to.blocks, block < table.blocks ? table.pageEnd(block) : block + PIECE / ENTRY);
    const bytes = Buffer.alloc((end - first) * ENTRY);
    for (; block < end; block += 1) {
      const place = block < table.blocks ? await placeOf(table, block) : NO_PLACE;
      bytes.writeUInt32BE(place === NO_PLACE ? UNUSED : place / SECTOR, (block - first) * ENTRY);
    }
    await file.write(bytes, to.at + first * ENTRY);
  }
}

export async function placeOf(table: BlockTable, block: number): Promise<number> {
  for (;;) {
    const place = table.place(block);
    if (place !== undefined) return place;
    await table.pages.load();
  }
}
