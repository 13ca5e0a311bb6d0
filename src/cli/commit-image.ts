import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { ALL_PERMISSIONS, Permission } from '../block/permissions.ts';
import { copyDisk } from '../jobs/copy.ts';
import { realPath } from '../sys/paths.ts';
import { imageTree } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { complain } from './output.ts';
import { Progress } from './progress.ts';
import { doorTo, withGraph } from './with-graph.ts';

export interface CommitOptions extends ImageValues {
  readonly base: string | undefined;
  readonly keep: boolean;
}

interface Target {
  readonly node: Node;
  /** Layers above it. */
  readonly depth: number;
}

export async function commitImage(image: string, options: CommitOptions): Promise<{ filename: string }> {
  return withGraph(options, async (graph) => {
    const top = await graph.open(imageTree(image, options));
    const base = findBase(top, image, options.base);
    const empties = !options.keep && base.depth === 1;
    if (empties && (top.impl.family !== 'mapping' || top.impl.makeEmpty === undefined)) {
      const text = `format "${top.driver.name}" can't be emptied afterwards; say --keep to leave it as it is`;
      throw new BlockError('ENOTSUP', `Cannot commit "${image}": ${text}`);
    }
    await copyDown(graph, top, base);
    if (empties) await makeEmpty(graph, top);
    const { filename } = base.node;
    if (!empties) await tellWhetherOpens(graph, image, options, { top, filename });
    return { filename };
  });
}

/**
 * An overlay whose format remembers what its parent held refuses, or warns of, a parent that has changed. In the same graph:
 * it has the keys, which can be read once only.
 */
async function tellWhetherOpens(
  graph: Graph,
  image: string,
  options: CommitOptions,
  { top, filename }: { top: Node; filename: string },
): Promise<void> {
  await graph.remove(top.name);
  await graph.open({ ...imageTree(image, options), 'read-only': true }).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    complain(`warning: "${filename}" holds everything now, and the overlay opens no more: ${reason}`);
  });
}

function findBase(top: Node, image: string, wanted: string | undefined): Target {
  const path = wanted === undefined ? undefined : realPath(wanted);
  const chain: string[] = [];
  for (let node = top.cow?.node, depth = 1; node !== undefined; node = node.cow?.node, depth += 1) {
    if (path === undefined || realPath(node.filename) === path) return { node, depth };
    chain.push(`"${node.filename}"`);
  }
  const what =
    chain.length === 0 ? 'it has no backing file' : `"${wanted ?? ''}" is not in its backing chain`;
  const among = chain.length === 0 ? '' : `, must be one of ${chain.join(', ')}`;
  throw new BlockError('EINVAL', `Cannot commit "${image}": ${what}${among}`);
}

/** The images above the base do not mind that it changes: what changes is hidden by them. */
async function copyDown(graph: Graph, top: Node, base: Target): Promise<void> {
  const source = graph.attachRoot(top, {
    name: 'command',
    label: 'this command',
    used: Permission.consistentRead,
    shared: ALL_PERMISSIONS,
  });
  await graph.reopen([{ node: base.node, options: { ...base.node.options, 'read-only': false } }]);
  const into = doorTo(graph, base.node, true);
  const progress = new Progress('commit');
  try {
    if (into.size < source.size) await into.resize(source.size);
    await copyDisk(source, into, {
      depth: base.depth,
      progress: (done, total) => {
        progress.update(done, total);
      },
    });
    await into.flush();
  } finally {
    progress.end();
  }
  await graph.detach(into);
  await graph.detach(source);
}

/** What is dropped is on stable storage in the base. */
async function makeEmpty(graph: Graph, top: Node): Promise<void> {
  await graph.change([top], async () => {
    if (top.impl.family === 'mapping') await top.impl.makeEmpty?.();
  });
}
