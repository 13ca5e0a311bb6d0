import type { DirtyBitmap } from '../../block/dirty-bitmap.ts';
import { dirtyExtents } from '../../block/dirty-extents.ts';
import { renderDirtyExtent } from '../render-bitmap.ts';

/** Of a file that shows a bitmap: a few megabytes of text. */
const EXTENTS_MAX = 100_000;
const EXTENTS_PER_TURN = 10_000;

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

/** Bytes of the text of one with at most `max` extents; undefined where there are more. */
export function tryTextLength(bitmap: DirtyBitmap, max: number): number | undefined {
  let length = 3;
  let count = 0;
  for (const extent of dirtyExtents(bitmap)) {
    count += 1;
    if (count > max) return undefined;
    length += renderDirtyExtent(extent).length + (count === 1 ? 0 : 2);
  }
  return length;
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
