import { DirtyBitmap } from '../../block/dirty-bitmap.ts';
import type { Graph } from '../../block/graph.ts';
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
      if (given.persistent) refuse(`Can't store persistent bitmaps to ${node.name}: Operation not supported`);
      const { most, least } = DEFAULT_GRANULARITY;
      const usual = Math.min(most, Math.max(least, node.limits.allocationUnit));
      const granularity = given.granularity ?? usual;
      const bitmap = new DirtyBitmap({ name: given.name, granularity, size: node.size });
      bitmap.enabled = !given.disabled;
      watch.bitmaps.set(given.name, bitmap);
    },
    undo: () => {
      node.watch?.bitmaps.delete(given.name);
    },
  };
}

export function removeBitmap(graph: Graph, given: BitmapName): Action {
  let node: Node;
  let bitmap: DirtyBitmap;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: () => {
      bitmap = freeBitmap(node, given.name);
      node.watch?.bitmaps.delete(given.name);
    },
    undo: () => {
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
    apply: () => {
      const bitmap = freeBitmap(node, given.name);
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
      return bitmapOf(bitmapNode(graph, { node: from }), name);
    });
    const other = sources.find(({ size }) => size !== bitmap.size);
    if (other !== undefined)
      refuse(
        `Bitmaps are of different sizes (destination size is ${bitmap.size} and source size is ${other.size}) and can't be merged`,
      );
    for (const source of sources) if (source !== bitmap) bitmap.merge(source);
  });
}

function changeContent(graph: Graph, given: BitmapName, change: (bitmap: DirtyBitmap) => void): Action {
  let node: Node;
  let before: Uint8Array;
  return {
    prepare: async () => [(node = bitmapNode(graph, given))],
    apply: () => {
      const bitmap = freeBitmap(node, given.name);
      before = bitmap.save();
      change(bitmap);
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

function refuse(why: string): never {
  throw new CommandError('GenericError', why);
}
