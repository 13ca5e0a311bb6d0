import { DirtyBitmap } from '../../block/dirty-bitmap.ts';
import { bitmapStoreOf } from '../../block/dirty-extents.ts';
import { BlockError } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import { snapshotsOf } from '../../block/internal-snapshots.ts';
import type { BitPages } from '../../util/bit-pages.ts';
import type { Node } from '../../block/node.ts';
import { WriteWatch } from '../../block/write-watch.ts';
import { CommandError } from '../command.ts';
import { bitmapOf, findNode } from '../lookup.ts';
import type { Action } from './action.ts';

const DEFAULT_GRANULARITY = { least: 4096, most: 65536 };

export interface BitmapName {
  readonly node: string;
  readonly name: string;
}

export interface NewBitmap extends BitmapName {
  readonly granularity?: number | undefined;
  readonly persistent: boolean;
  readonly disabled: boolean;
}

export function addBitmap(graph: Graph, given: NewBitmap): Action {
  let node: Node;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: () => {
      const watch = (node.watch ??= new WriteWatch());
      if (watch.bitmaps.has(given.name)) refuse(`Bitmap already exists: ${given.name}`);
      const { most, least } = DEFAULT_GRANULARITY;
      const usual = Math.min(most, Math.max(least, node.limits.allocationUnit));
      const granularity = given.granularity ?? usual;
      const bitmap = new DirtyBitmap({ name: given.name, granularity, size: node.size });
      bitmap.enabled = !given.disabled;
      if (given.persistent) keep(node, bitmap);
      watch.bitmaps.set(given.name, bitmap);
    },
    undo: async () => {
      const bitmap = bitmapOf(node, given.name);
      await bitmapStoreOf(node)?.remove(bitmap);
      node.watch?.bitmaps.delete(given.name);
    },
  };
}

export function removeBitmap(graph: Graph, given: BitmapName): Action {
  let node: Node;
  let bitmap: DirtyBitmap;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: async () => {
      bitmap = freeBitmap(node, given.name);
      requireWritable(node, bitmap);
      if (bitmap.persistent) await bitmapStoreOf(node)?.remove(bitmap);
      node.watch?.bitmaps.delete(given.name);
    },
    undo: () => {
      if (bitmap.persistent) bitmapStoreOf(node)?.add(bitmap);
      node.watch?.bitmaps.set(given.name, bitmap);
    },
  };
}

export function clearBitmap(graph: Graph, given: BitmapName): Action {
  return changeContent(graph, given, (bitmap) => {
    bitmap.clear();
  });
}

export function enableBitmap(graph: Graph, given: BitmapName, enabled: boolean): Action {
  let node: Node;
  let before = false;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: async () => {
      const bitmap = await changeable(node, given.name);
      before = bitmap.enabled;
      bitmap.enabled = enabled;
    },
    undo: () => {
      bitmapOf(node, given.name).enabled = before;
    },
  };
}

export interface BitmapMerge {
  readonly node: string;
  readonly target: string;
  /** Of the same node where a name alone is given. */
  readonly bitmaps: readonly (string | BitmapName)[];
}

export function mergeBitmaps(graph: Graph, { node, target, bitmaps }: BitmapMerge): Action {
  return changeContent(graph, { node, name: target }, (bitmap) => {
    const sources = bitmaps.map((source) => {
      const { node: from, name } = typeof source === 'string' ? { node, name: source } : source;
      const found = bitmapOf(bitmapNode(graph, { node: from }), name);
      requireConsistent(found);
      return found;
    });
    const other = sources.find(({ size }) => size !== bitmap.size);
    if (other !== undefined)
      refuse(
        `Bitmaps are of different sizes (destination size is ${bitmap.size} and source size is ${other.size}) and can't be merged`,
      );
    for (const source of sources) if (source !== bitmap) bitmap.merge(source);
  });
}

export interface SnapshotChanges extends BitmapName {
  /** Ids or names of snapshots. */
  readonly since: string;
  /** The disk as it is now when left out. */
  readonly until?: string | undefined;
}

/** What may differ from a snapshot inside the image becomes dirty as well. */
export function noteSnapshotChanges(graph: Graph, { since, until, ...given }: SnapshotChanges): Action {
  return changeContent(graph, given, (bitmap, node) =>
    snapshotsOf(node).noteChanges(since, until, (offset, length) => {
      bitmap.set(offset, Math.min(length, bitmap.size - offset));
    }),
  );
}

function changeContent(
  graph: Graph,
  given: BitmapName,
  change: (bitmap: DirtyBitmap, node: Node) => Promise<void> | void,
): Action {
  let node: Node;
  let before: BitPages;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: async () => {
      const bitmap = await changeable(node, given.name);
      before = bitmap.save();
      await change(bitmap, node);
    },
    undo: () => {
      bitmapOf(node, given.name).restore(before);
    },
  };
}

function bitmapNode(graph: Graph, { node }: { readonly node: string }): Node {
  return findNode(graph, { device: node, 'node-name': node });
}

function freeBitmap(node: Node, name: string): DirtyBitmap {
  const bitmap = bitmapOf(node, name);
  if (bitmap.user !== undefined)
    refuse(`Bitmap '${name}' is currently in use by ${bitmap.user} and cannot be used`);
  return bitmap;
}

/** For a change of what it says or does; from then on its image does not vouch for what it has of it. */
async function changeable(node: Node, name: string): Promise<DirtyBitmap> {
  const bitmap = freeBitmap(node, name);
  requireWritable(node, bitmap);
  requireConsistent(bitmap);
  if (bitmap.persistent) await bitmapStoreOf(node)?.changing(bitmap);
  return bitmap;
}

function requireWritable(node: Node, bitmap: DirtyBitmap): void {
  if (bitmap.persistent && node.readOnly)
    refuse(`Bitmap '${bitmap.name}' is readonly and cannot be modified`);
}

function requireConsistent({ name, inconsistent }: DirtyBitmap): void {
  if (inconsistent) refuse(`Bitmap '${name}' is inconsistent and cannot be used`);
}

function keep(node: Node, bitmap: DirtyBitmap): void {
  const store = bitmapStoreOf(node);
  if (store === undefined) {
    refuse(`Can't store persistent bitmaps to ${node.name}: Operation not supported`);
    return;
  }
  try {
    store.add(bitmap);
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    refuse(`Can't make bitmap '${bitmap.name}' persistent in '${node.name}': ${error.message}`);
  }
}

function refuse(why: string): never {
  throw new CommandError('GenericError', why);
}
