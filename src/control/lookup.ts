import type { Child } from '../block/child.ts';
import type { DirtyBitmap } from '../block/dirty-bitmap.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { Permission } from '../block/permissions.ts';
import type { Permissions } from '../block/permissions.ts';
import { CommandError } from './command.ts';

/** The node that `device` or `node-name` name; here both are names of nodes. */
export function findNode(
  graph: Graph,
  given: { readonly device?: string | undefined; readonly 'node-name'?: string | undefined },
): Node {
  const { device = '', 'node-name': name = '' } = given;
  const node = graph.nodes.get(name === '' ? device : name);
  if (node !== undefined) return node;
  throw new CommandError('GenericError', `Cannot find device='${device}' nor node-name='${name}'`);
}

/** Where a command takes a `node-name` alone. */
export function nodeNamed(graph: Graph, name: string): Node {
  const node = graph.nodes.get(name);
  if (node !== undefined) return node;
  throw new CommandError('GenericError', `Failed to find node with node-name='${name}'`);
}

export function bitmapOf(node: Node, name: string): DirtyBitmap {
  const bitmap = node.watch?.bitmaps.get(name);
  if (bitmap !== undefined) return bitmap;
  throw new CommandError('GenericError', `Dirty bitmap '${name}' not found`);
}

/** Runs something that does I/O on a node, through a door of its own. */
export async function withDoor<Result>(
  graph: Graph,
  node: Node,
  used: Permissions,
  run: (door: Child) => Promise<Result>,
): Promise<Result> {
  if ((used & (Permission.write | Permission.resize)) !== 0) await graph.allowWriting(node);
  const door = graph.attachRoot(node, { name: 'monitor', label: 'the monitor', used });
  try {
    return await run(door);
  } finally {
    await graph.detach(door);
  }
}
