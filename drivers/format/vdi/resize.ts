/**
 * A longer block map for a disk that grows. Where it has no room in front of the data, the first places are given up:
 *
 *     [header][map][place 0][place 1] ...              their blocks move to the end, flush
 *     [header][map][new map][place 1] ... [place n]    the new map is written, flush
 *     [header][----][new map][place 0] ... [place n-1] the header names it, in one sector: places count from there now
 *
 * Whatever is cut off in between, the header names a map that is whole.
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { requireShrink } from '../../../src/block/refuse.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { BlockMap } from './block-map.ts';
import { BLOCKS_MAX, Entry } from './header.ts';
import type { VdiHeader } from './header.ts';

const PIECE = 1024 * 1024;

export interface Growth {
  readonly blocks: number;
  /** Places that the new map takes; 0 where the old one has the room. */
  readonly given: number;
}

/** What a new size takes. Throws for one that can't be. */
export function planGrowth(header: VdiHeader, size: number, shrink: boolean, subject: string): Growth {
  requireShrink(subject, header.disk_size, size, shrink);
  if (size % 512 !== 0) refuseSize(subject, size, 'the size must be a multiple of 512');
  const step = header.block_size + header.block_extra;
  const blocks = Math.max(header.blocks_in_image, Math.ceil(size / header.block_size));
  const fits = header.offset_bmap + blocks * 4 <= header.offset_data;
  const given = fits ? 0 : Math.ceil(alignUp(blocks * 4, 512) / step);
  if (blocks > BLOCKS_MAX || header.offset_data + given * step > 0xffffffff) {
    const most = BLOCKS_MAX * header.block_size;
    throw new BlockError('EFBIG', `Cannot resize "${subject}" to ${size} bytes: must be at most ${most}`);
  }
  return { blocks, given };
}

export function refuseSize(subject: string, size: number, why: string): never {
  throw new BlockError('ENOTSUP', `Cannot resize "${subject}" to ${size} bytes: ${why}`);
}

/** Blocks whose place has number `first` or a higher one. */
export async function placesFrom(map: BlockMap, first: number): Promise<{ block: number; entry: number }[]> {
  const found: { block: number; entry: number }[] = [];
  await map.each((block, entry) => {
    if (entry >= first && entry < Entry.zero) found.push({ block, entry });
  });
  return found;
}

/** Copies the places below `count` behind `end`, where they are used. Nothing names the copies yet. */
export async function copyPlaces(
  file: Child,
  map: BlockMap,
  places: { count: number; end: number; offsetOf: (place: number) => number; step: number },
): Promise<{ block: number; place: number }[]> {
  const moved: { block: number; place: number }[] = [];
  const blocks: { block: number; entry: number }[] = [];
  await map.each((block, entry) => {
    if (entry < places.count) blocks.push({ block, entry });
  });
  const { offsetOf, step } = places;
  for (const { block, entry } of blocks) {
    const place = places.end + moved.length;
    moved.push({ block, place });
    await copyBytes(file, offsetOf(entry), offsetOf(place), step);
  }
  return moved;
}

/**
 * Writes the entries from block `from` on at the place where a map that begins at `at` has them: those of the old map, for
 * places that count from `given` further on, then those that `entryFor` gives.
 */
export async function writeMap(
  file: Child,
  map: BlockMap,
  to: { at: number; from?: number; blocks: number; given: number; entryFor: () => number },
): Promise<void> {
  for (let block = to.from ?? 0; block < to.blocks;) {
    const first = block;
    const end = Math.min(to.blocks, block < map.blocks ? map.pageEnd(block) : block + PIECE / 4);
    const bytes = Buffer.alloc((end - first) * 4);
    for (; block < end; block += 1) {
      const entry = block < map.blocks ? await entryOf(map, block) : to.entryFor();
      const shift = block < map.blocks && entry < Entry.zero ? to.given : 0;
      bytes.writeUInt32LE(entry - shift, (block - first) * 4);
    }
    await file.write(bytes, to.at + first * 4);
  }
}

/** The last block behind `end` of the disk, and blocks that the map has though the disk ends in front of them. */
export async function clearBehind(
  file: Child,
  map: BlockMap,
  disk: { end: number; unit: number; offsetOf: (place: number) => number },
): Promise<void> {
  const last = Math.floor(disk.end / disk.unit);
  for (let block = last; block < map.blocks; block += 1) {
    const entry = await entryOf(map, block);
    const from = block === last ? disk.end % disk.unit : 0;
    if (entry < Entry.zero) await file.writeZeroes(disk.offsetOf(entry) + from, disk.unit - from);
  }
}

async function entryOf(map: BlockMap, block: number): Promise<number> {
  for (;;) {
    const entry = map.entry(block);
    if (entry !== undefined) return entry;
    await map.pages.load();
  }
}

export async function copyBytes(file: Child, from: number, to: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += PIECE) {
    const bytes = Buffer.allocUnsafe(Math.min(PIECE, length - done));
    await file.read(bytes, from + done);
    await file.write(bytes, to + done);
  }
}
