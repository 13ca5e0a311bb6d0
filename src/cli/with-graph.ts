import type { Child } from '../block/child.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { ALL_PERMISSIONS, Permission } from '../block/permissions.ts';
import { gatePolicy, imageTree } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { makeGraph } from './open-graph.ts';
import { complain } from './output.ts';
import { addSecrets, askSecret } from './secrets.ts';

/** Runs `use` with an empty graph and closes whatever is open in it; an error of that close is the command's error.
 * @param openLocked the content of the images is not needed, only their tables */
export async function withGraph<Result>(
  values: ImageValues,
  use: (graph: Graph) => Promise<Result>,
  openLocked = false,
): Promise<Result> {
  const warn = (message: string): void => {
    complain(`warning: ${message}`);
  };
  const graph = makeGraph(gatePolicy(values), warn, { askSecret, openLocked });
  addSecrets(graph, values);
  let result: Result;
  try {
    result = await use(graph);
  } catch (error) {
    await graph.close().catch(() => undefined);
    throw error;
  }
  await graph.close();
  return result;
}

const CHANGING = Permission.write | Permission.resize;

/** Opens an image as the user named it and takes a door to it. */
export async function openForCommand(
  graph: Graph,
  image: string,
  values: ImageValues,
  mode: { readonly writable: boolean; readonly options?: Readonly<Record<string, unknown>> },
): Promise<{ node: Node; child: Child }> {
  const readOnly = mode.writable ? {} : { 'read-only': true };
  const node = await graph.open({ ...imageTree(image, values), ...readOnly, ...mode.options });
  return { node, child: doorTo(graph, node, mode.writable) };
}

/** The door of a command: nobody else may change the disk meanwhile. */
export function doorTo(graph: Graph, node: Node, writable: boolean): Child {
  return graph.attachRoot(node, {
    name: 'command',
    label: 'this command',
    used: Permission.consistentRead | (writable ? CHANGING : 0),
    shared: ALL_PERMISSIONS & ~CHANGING,
  });
}

/** An image for its tables, not its content: what they say is not encrypted. Closed whatever comes. */
export function withImageTables<Result>(
  image: string,
  values: ImageValues,
  writable: boolean,
  use: (graph: Graph, node: Node) => Promise<Result>,
): Promise<Result> {
  const open = async (graph: Graph): Promise<Result> => {
    const { node } = await openForCommand(graph, image, values, { writable });
    return use(graph, node);
  };
  return withGraph(values, open, true);
}
