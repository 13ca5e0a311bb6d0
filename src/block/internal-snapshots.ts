import type { SnapshotCapability } from './driver.ts';
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

/** Creates, applies or deletes with nothing under way above the node: requests that come meanwhile wait. */
export function changeSnapshots<Result>(
  graph: Graph,
  node: Node,
  change: (snapshots: SnapshotCapability) => Promise<Result>,
): Promise<Result> {
  const snapshots = snapshotsOf(node);
  return graph.change([node], async () => {
    const result = await change(snapshots);
    node.generation += 1;
    return result;
  });
}
