import type { BitmapCapability } from './bitmap-capability.ts';
import type { DirtyBitmap } from './dirty-bitmap.ts';
import type { Node } from './node.ts';

/** A part of a disk that a bitmap says one thing of. */
export interface DirtyExtent {
  readonly start: number;
  readonly length: number;
  readonly dirty: boolean;
}

/**
 * All of the disk from `from` on, dirty and clean in turn. Clean extents of up to `gap` bytes between dirty ones are told as
 * dirty too.
 */
export function* dirtyExtents(bitmap: DirtyBitmap, from = 0, gap = 0): Generator<DirtyExtent> {
  let start = from;
  for (let run = bitmap.nextDirty(from); run !== undefined;) {
    let end = run.offset + run.length;
    let next = bitmap.nextDirty(end);
    while (next !== undefined && next.offset - end <= gap) {
      end = next.offset + next.length;
      next = bitmap.nextDirty(end);
    }
    if (run.offset > start) yield { start, length: run.offset - start, dirty: false };
    yield { start: run.offset, length: end - run.offset, dirty: true };
    start = end;
    run = next;
  }
  if (start < bitmap.size) yield { start, length: bitmap.size - start, dirty: false };
}

/** What a node's image offers for bitmaps inside it. */
export function bitmapStoreOf({ impl }: Node): BitmapCapability | undefined {
  return impl.family === 'mapping' ? impl.dirtyBitmaps : undefined;
}

/** The node, and while it is a filter what it filters: where the bitmaps of a disk may be. */
export function* nodesWithBitmaps(top: Node): Generator<Node> {
  let node = top;
  for (;;) {
    yield node;
    if (node.impl.family !== 'filter') return;
    node = node.filteredChild().node;
  }
}
