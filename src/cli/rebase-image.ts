import path from 'node:path';
import type { Child } from '../block/child.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { ALL_PERMISSIONS, Permission } from '../block/permissions.ts';
import { keepContent } from '../jobs/rebase.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export interface RebaseOptions extends ImageValues {
  readonly backing: string;
  readonly 'backing-format': string | undefined;
  readonly unsafe: boolean;
}

export async function rebaseImage(image: string, options: RebaseOptions): Promise<void> {
  await withGraph(options, async (graph) => {
    const alone = options.unsafe ? { backing: null } : {};
    const { node, child } = await openForCommand(graph, image, options, { writable: true, options: alone });
    const { impl } = node;
    if (impl.family !== 'mapping' || impl.changeBacking === undefined) {
      const text = `format "${node.driver.name}" has no backing file name that can be changed`;
      throw new BlockError('ENOTSUP', `Cannot rebase "${image}": ${text}`);
    }
    const named = options.backing === '' ? undefined : options.backing;
    const next =
      options.unsafe || named === undefined ? undefined : await openNext(graph, node, named, options);
    if (!options.unsafe) await keep(graph, child, next);
    const format = options['backing-format'] ?? next?.driver.name;
    await graph.change([node], () => impl.changeBacking?.(named, named === undefined ? undefined : format));
  });
}

/** The name is meant as the image will hold it. */
function openNext(graph: Graph, node: Node, named: string, options: RebaseOptions): Promise<Node> {
  const filename = path.resolve(path.dirname(path.resolve(node.filename)), named);
  return graph.openImage(filename, options['backing-format'], { 'read-only': true });
}

async function keep(graph: Graph, overlay: Child, next: Node | undefined): Promise<void> {
  const previous = overlay.node.cow?.node;
  const progress = new Progress('rebase');
  try {
    await keepContent(overlay, readerOf(graph, previous), readerOf(graph, next), {
      progress: (done, total) => {
        progress.update(done, total);
      },
    });
    await overlay.flush();
  } finally {
    progress.end();
  }
}

function readerOf(graph: Graph, node: Node | undefined): Child | undefined {
  if (node === undefined) return undefined;
  const request = { name: 'command', label: 'this command', used: Permission.consistentRead };
  return graph.attachRoot(node, { ...request, shared: ALL_PERMISSIONS });
}
