import type { DirtyBitmap } from '../../block/dirty-bitmap.ts';
import { dirtyExtents } from '../../block/dirty-extents.ts';
import { renderDirtyExtent } from '../render-bitmap.ts';

/** Of a file that shows a bitmap: a few megabytes of text. */
const EXTENTS_MAX = 100_000;
const EXTENTS_PER_TURN = 10_000;
/** Characters of an extent without its numbers. */
const DIRTY_LENGTH = renderDirtyExtent({ start: 0, length: 0, dirty: true }).length - 2;
const CLEAN_LENGTH = renderDirtyExtent({ start: 0, length: 0, dirty: false }).length - 2;

/**
 * All of the disk as a JSON array, an extent a line. Where there would be too many, clean ones between dirty ones are told as
 * dirty, the shortest first: nothing that is dirty is left out. @param bitmap nobody may change it meanwhile
 */
export async function bitmapText(bitmap: DirtyBitmap, max = EXTENTS_MAX): Promise<string> {
  for (let gap = 0; ; gap = Math.max(gap * 4, bitmap.granularity)) {
    const lines = await render(bitmap, gap, gap > bitmap.size ? Infinity : max);
    if (lines !== undefined) return `[${lines.join(',\n')}]\n`;
  }
}

/** Bytes of the text; undefined where some of at most `max` extents tell more than the bitmap does. Makes no text. */
export function tryTextLength(bitmap: DirtyBitmap, max = EXTENTS_MAX): number | undefined {
  let length = 3;
  let count = 0;
  for (const { start, length: bytes, dirty } of dirtyExtents(bitmap)) {
    count += 1;
    if (count > max) return undefined;
    length += (dirty ? DIRTY_LENGTH : CLEAN_LENGTH) + digits(start) + digits(bytes) + (count === 1 ? 0 : 2);
  }
  return length;
}

/** Of a whole number below 2^53. */
function digits(value: number): number {
  let count = 1;
  for (let power = 10; power <= value; power *= 10) count += 1;
  return count;
}

/** Undefined when there are too many. */
async function render(bitmap: DirtyBitmap, gap: number, max: number): Promise<string[] | undefined> {
  const lines: string[] = [];
  for (const extent of dirtyExtents(bitmap, 0, gap)) {
    if (lines.length === max) return undefined;
    lines.push(renderDirtyExtent(extent));
    if (lines.length % EXTENTS_PER_TURN === 0)
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
  }
  return lines;
}
