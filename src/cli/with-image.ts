import type { Child } from '../block/child.ts';
import type { Node } from '../block/node.ts';
import { ALL_PERMISSIONS, Permission } from '../block/permissions.ts';
import { gatePolicy, imageTree } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { makeGraph } from './open-graph.ts';
import { complain } from './output.ts';
import { addSecrets } from './secrets.ts';

export interface OpenImage {
  readonly node: Node;
  readonly child: Child;
}

/**
 * Opens an image for a look at what it is (locked, when it is encrypted and no key is given) while `use` runs, and closes
 * it whatever comes. @param more options of its node, before those that the user gave
 */
export async function withImage<Result>(
  image: string,
  values: ImageValues,
  use: (open: OpenImage) => Promise<Result>,
  more: Readonly<Record<string, unknown>> = {},
): Promise<Result> {
  const warn = (message: string): void => {
    complain(`warning: ${message}`);
  };
  const graph = makeGraph(gatePolicy(values), warn, { openLocked: true });
  addSecrets(graph, values);
  try {
    const node = await graph.open({ ...more, ...imageTree(image, values), 'read-only': true });
    const child = graph.attachRoot(node, {
      name: 'command',
      label: 'this command',
      used: Permission.consistentRead,
      shared: ALL_PERMISSIONS & ~(Permission.write | Permission.resize),
    });
    return await use({ node, child });
  } finally {
    await graph.close();
  }
}
