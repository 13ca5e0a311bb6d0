import type { SnapshotCapability } from './snapshot-capability.ts';
import { BlockError } from './errors.ts';
import type { Graph } from './graph.ts';
import type { Node } from './node.ts';

/** What a node offers for snapshots inside its image; ENOTSUP where it has none. */
export function snapshotsOf(node: Node): SnapshotCapability {
  const { impl } = node;
  if (impl.family === 'mapping' && impl.snapshots !== undefined) return impl.snapshots;
  const text = `Cannot use snapshots of node "${node.name}": driver "${node.driver.name}" has no internal snapshots`;
  throw new BlockError('ENOTSUP', text, { node: node.name });
}

/** The node at or below `top`, filters in between, whose image may hold snapshots; undefined without one. */
export function nodeWithSnapshots(top: Node): Node | undefined {
  let node = top;
  while (node.impl.family === 'filter') node = node.filteredChild().node;
  return node.impl.family === 'mapping' && node.impl.snapshots !== undefined ? node : undefined;
}

/** Creates or deletes with nothing under way above the node: requests that come meanwhile wait. */
export function changeSnapshots<Result>(
  graph: Graph,
  node: Node,
  change: (snapshots: SnapshotCapability) => Promise<Result>,
): Promise<Result> {
  const snapshots = snapshotsOf(node);
  return graph.change([node], () => change(snapshots));
}

/** The disk becomes what it was, its size too. */
export async function applySnapshot(graph: Graph, node: Node, idOrName: string): Promise<void> {
  await changeSnapshots(graph, node, async (snapshots) => {
    await snapshots.apply(idOrName);
    becameAnother(node);
  });
}

/** All of the content has changed: for whoever notes changes, of the node and of filters above it. */
function becameAnother(node: Node): void {
  node.generation += 1;
  node.watch?.resized(node.size);
  node.watch?.wrote(0, node.size);
  for (const { parent } of node.parents)
    if (parent.parentNode?.impl.family === 'filter') becameAnother(parent.parentNode);
}
