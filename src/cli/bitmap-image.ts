import { bitmapStoreOf, dirtyExtents, nodesWithBitmaps } from '../block/dirty-extents.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { runActions } from '../control/actions/action.ts';
import type { Action } from '../control/actions/action.ts';
import {
  addBitmap,
  clearBitmap,
  enableBitmap,
  mergeBitmaps,
  noteSnapshotChanges,
  removeBitmap,
} from '../control/actions/bitmap.ts';
import type { BitmapDescription } from '../control/describe-bitmap.ts';
import { bitmapOf } from '../control/lookup.ts';
import type { BitmapAction } from './bitmap.ts';
import { bitmapsOfDisk } from './bitmaps-of-disk.ts';
import type { DiskBitmaps } from './bitmaps-of-disk.ts';
import type { ImageValues } from './image-arguments.ts';
import type { ExtentPrinter } from './print-extents.ts';
import { ask, servedImage } from './server/ask.ts';
import type { ServedImage } from './server/ask.ts';
import type { ShownExtents } from './server/bitmap-commands.ts';
import { BITMAP_ADD_SINCE, BITMAP_LIST, BITMAP_SHOW } from './server/command-names.ts';
import { withImageTables } from './with-graph.ts';

export interface BitmapChange {
  readonly action: Exclude<BitmapAction, 'list' | 'show'>;
  readonly name: string;
  /** For `merge`. */
  readonly from: readonly string[];
  readonly granularity: number | undefined;
  readonly disabled: boolean;
  /** For `add`: ids or names of snapshots. */
  readonly since: string | undefined;
  readonly until: string | undefined;
}

export interface ImageBitmaps {
  list(): Promise<readonly BitmapDescription[]>;
  change(change: BitmapChange): Promise<void>;
  show(name: string, printer: ExtentPrinter): Promise<void>;
}

/** The bitmaps inside an image: through the server that has it mounted, where there is one. */
export function bitmapsOfImage(image: string, values: ImageValues): ImageBitmaps {
  const served = servedImage(image);
  const bitmaps = served === undefined ? inFile(image, values) : inMount(served);
  const subject = (action: string, name: string): string =>
    `Cannot ${action} bitmap "${name}" of image "${image}"`;
  return {
    list: () => bitmaps.list(),
    change: (change) => refusedAs(subject(change.action, change.name), bitmaps.change(change)),
    show: (name, printer) => refusedAs(subject('show', name), bitmaps.show(name, printer)),
  };
}

/** QEMU's words for what is refused tell neither the image nor what was attempted. */
async function refusedAs(what: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof Error) || error.message.startsWith('Cannot')) throw error;
    throw new BlockError('EINVAL', `${what}: ${error.message}`, {}, error);
  }
}

function inMount(served: ServedImage): ImageBitmaps {
  const list = async (): Promise<DiskBitmaps> =>
    (await ask(served, BITMAP_LIST, { device: served.mount.node })) as DiskBitmaps;
  const nodeOf = async (name: string): Promise<string> => {
    const { bitmaps } = await list();
    return bitmaps.find((bitmap) => bitmap.name === name)?.node ?? served.mount.node;
  };
  return {
    list: async () => (await list()).bitmaps.map(withoutNode),
    change: async ({ action, name, from, granularity, disabled, since, until }) => {
      const command = `block-dirty-bitmap-${action}`;
      if (action === 'add') {
        const node = (await list()).store ?? served.mount.node;
        const size = granularity === undefined ? {} : { granularity };
        const given = { node, name, disabled, ...size };
        if (since === undefined) await ask(served, command, { ...given, persistent: true });
        else {
          const range = until === undefined ? { since } : { since, until };
          await ask(served, BITMAP_ADD_SINCE, { ...given, ...range });
        }
        return;
      }
      const node = await nodeOf(name);
      if (action !== 'merge') await ask(served, command, { node, name });
      else {
        const bitmaps = await Promise.all(from.map(async (name) => ({ node: await nodeOf(name), name })));
        await ask(served, command, { node, target: name, bitmaps });
      }
    },
    show: async (name, printer) => {
      const node = await nodeOf(name);
      for (let offset: number | undefined = 0; offset !== undefined;) {
        const shown = (await ask(served, BITMAP_SHOW, { node, name, offset })) as ShownExtents;
        printer.print(shown.extents);
        offset = shown.next;
      }
      printer.end();
    },
  };
}

function withoutNode({ node, ...bitmap }: DiskBitmaps['bitmaps'][number]): BitmapDescription {
  void node;
  return bitmap;
}

function inFile(image: string, values: ImageValues): ImageBitmaps {
  return {
    list: () =>
      withImageTables(image, values, false, async (_, top) => bitmapsOfDisk(top).bitmaps.map(withoutNode)),
    change: (change) =>
      withImageTables(image, values, true, async (graph, top) => {
        const node = storeNode(top);
        if (node === undefined) {
          const what = `format "${top.driver.name}" has no bitmaps`;
          throw new BlockError('ENOTSUP', `Cannot ${change.action} a bitmap of "${image}": ${what}`);
        }
        await runActions(graph, actionsOf(graph, node.name, change));
      }),
    show: (name, printer) =>
      withImageTables(image, values, false, async (_, top) => {
        const bitmap = bitmapOf(storeNode(top) ?? top, name);
        if (bitmap.inconsistent)
          throw new BlockError('EIO', `Cannot show bitmap "${name}" of "${image}": it is inconsistent`);
        printer.print(dirtyExtents(bitmap));
        printer.end();
      }),
  };
}

function storeNode(top: Node): Node | undefined {
  return [...nodesWithBitmaps(top)].find((node) => bitmapStoreOf(node) !== undefined);
}

function actionsOf(graph: Graph, node: string, change: BitmapChange): Action[] {
  const { name, since, until } = change;
  const action = actionOf(graph, node, change);
  if (since === undefined) return [action];
  return [action, noteSnapshotChanges(graph, { node, name, since, until })];
}

function actionOf(graph: Graph, node: string, change: BitmapChange): Action {
  const { action, name, from, granularity, disabled } = change;
  const given = { node, name };
  switch (action) {
    case 'add':
      return addBitmap(graph, { ...given, granularity, disabled, persistent: true });
    case 'remove':
      return removeBitmap(graph, given);
    case 'clear':
      return clearBitmap(graph, given);
    case 'enable':
      return enableBitmap(graph, given, true);
    case 'disable':
      return enableBitmap(graph, given, false);
    case 'merge':
      return mergeBitmaps(graph, { node, target: name, bitmaps: from });
  }
}
