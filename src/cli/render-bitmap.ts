import type { DirtyExtent } from '../block/dirty-extents.ts';
import type { BitmapDescription } from '../control/describe-bitmap.ts';
import { formatSize } from '../util/sizes.ts';
import { renderTable } from './render.ts';

/** An extent as one JSON object on one line, in the shape of `map`. */
export function renderDirtyExtent({ start, length, dirty }: DirtyExtent): string {
  return `{ "start": ${start}, "length": ${length}, "dirty": ${dirty}}`;
}

/** Bitmaps as people read them. */
export function renderBitmaps(bitmaps: readonly BitmapDescription[]): string {
  const rows = bitmaps.map((bitmap) => [
    bitmap.name.replaceAll(/\p{Cc}/gu, '?'),
    formatSize(bitmap.granularity),
    bitmap.inconsistent === true ? '' : formatSize(bitmap.count),
    stateOf(bitmap),
  ]);
  return renderTable(['NAME', 'GRANULARITY', 'DIRTY', 'STATE'], rows);
}

function stateOf({ inconsistent, recording, persistent, busy }: BitmapDescription): string {
  const words = [
    inconsistent === true ? 'inconsistent' : recording ? 'enabled' : 'disabled',
    ...(persistent ? [] : ['not stored']),
    ...(busy ? ['busy'] : []),
  ];
  return words.join(', ');
}
