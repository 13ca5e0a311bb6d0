import { bitmapStoreOf, nodesWithBitmaps } from '../block/dirty-extents.ts';
import type { Node } from '../block/node.ts';
import { describeBitmap } from '../control/describe-bitmap.ts';
import type { BitmapDescription } from '../control/describe-bitmap.ts';

export interface DiskBitmaps {
  /** The node whose image keeps bitmaps; undefined where the format can't. */
  readonly store?: string;
  readonly bitmaps: readonly (BitmapDescription & { readonly node: string })[];
}

/** The bitmaps of a disk, those of filters above its image too. */
export function bitmapsOfDisk(top: Node): DiskBitmaps {
  const nodes = [...nodesWithBitmaps(top)];
  const store = nodes.find((node) => bitmapStoreOf(node) !== undefined);
  const bitmaps = nodes.flatMap((node) =>
    [...(node.watch?.bitmaps.values() ?? [])].map((bitmap) => ({
      node: node.name,
      ...describeBitmap(bitmap),
    })),
  );
  return { ...(store === undefined ? {} : { store: store.name }), bitmaps };
}
