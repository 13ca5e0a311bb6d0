import { bitmapStoreOf, nodesWithBitmaps } from '../block/dirty-extents.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { runActions } from '../control/actions/action.ts';
import { addBitmap, enableBitmap, mergeBitmaps } from '../control/actions/bitmap.ts';
import { complain } from './output.ts';

/** Gives a copy of a disk, of the same size, the bitmaps that the image of the disk keeps. */
export async function copyBitmaps(graph: Graph, from: Node, to: Node): Promise<void> {
  const source = keeper(from);
  const target = keeper(to);
  const bitmaps = (source === undefined ? undefined : bitmapStoreOf(source)?.list()) ?? [];
  if (source === undefined || bitmaps.length === 0) return;
  if (target === undefined) {
    const what = `format "${to.driver.name}" has no bitmaps`;
    throw new BlockError('ENOTSUP', `Cannot copy bitmaps to "${to.filename}": ${what}`);
  }
  for (const { name, granularity, inconsistent, enabled } of bitmaps) {
    if (inconsistent) {
      complain(`warning: bitmap "${name}" is inconsistent and is not copied`);
      continue;
    }
    const given = { node: target.name, name };
    await runActions(graph, [
      addBitmap(graph, { ...given, granularity, persistent: true, disabled: true }),
      mergeBitmaps(graph, { node: target.name, target: name, bitmaps: [{ node: source.name, name }] }),
      enableBitmap(graph, given, enabled),
    ]);
  }
}

/** The node of the disk whose image keeps bitmaps. */
function keeper(top: Node): Node | undefined {
  return [...nodesWithBitmaps(top)].find((node) => bitmapStoreOf(node) !== undefined);
}
