import { State } from './bat.ts';
import type { BlockTable } from './bat.ts';
import { MIB } from './header.ts';
import type { Regions } from './regions.ts';

/** Places compared with one another; an image with more is not searched for overlaps. */
const PLACES_MAX = 16 * 1024 * 1024;

export interface Findings {
  readonly messages: string[];
  readonly blocks: number;
  /** The byte behind the last place. */
  readonly end: number;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** Looks through the whole table: places that overlap, or reach into a region or behind the file. */
export async function scanTable(
  bat: BlockTable,
  fixed: readonly Range[],
  fileSize: number,
): Promise<Findings> {
  const messages: string[] = [];
  const ranges: Range[] = [...fixed];
  let blocks = 0;
  let end = 0;
  const add = (range: Range): void => {
    end = Math.max(end, range.offset + range.length);
    if (ranges.length < PLACES_MAX) ranges.push(range);
  };
  for (let block = 0; block < bat.shape.blocks; block += 1) {
    try {
      await ensure(bat, () => bat.read(block));
      const { state, offset } = bat;
      if (state >= State.full) {
        blocks += 1;
        add({ offset, length: bat.shape.blockSize });
      }
      if (state === State.partial || block % bat.shape.ratio === 0) await addBitmap(bat, block, add);
    } catch (error) {
      messages.push(error instanceof Error ? error.message : String(error));
      if (messages.length > 100) break;
    }
  }
  messages.push(...overlaps(ranges));
  if (end > fileSize) messages.push(`a block ends at ${end}, the file at ${fileSize}`);
  return { messages, blocks, end };
}

/** The parts of a file that no block may cover. */
export function fixedRanges(regions: Regions, log: Range): Range[] {
  return [{ offset: 0, length: MIB }, log, ...regions.all];
}

async function addBitmap(bat: BlockTable, block: number, add: (range: Range) => void): Promise<void> {
  if (block % bat.shape.ratio !== 0 || bat.bitmapPositionOf(block) >= bat.tableEnd) return;
  await ensure(bat, () => bat.bitmapBlock(block) !== undefined);
  const offset = bat.bitmapBlock(block) ?? 0;
  if (offset !== 0) add({ offset, length: MIB });
}

async function ensure(bat: BlockTable, look: () => boolean): Promise<void> {
  while (!look()) await bat.pages.load();
}

function overlaps(ranges: Range[]): string[] {
  const found: string[] = [];
  let end = 0;
  for (const { offset, length } of ranges.sort((one, other) => one.offset - other.offset)) {
    if (offset < end && found.length < 100)
      found.push(`something begins at byte ${offset}, what is before it ends at ${end}`);
    end = Math.max(end, offset + length);
  }
  return found;
}
