import type { ChildParent } from './child.ts';
import type { Node } from './node.ts';

/**
 * A section in which no request is under way above `nodes`, so that the graph may change under its users:
 *
 *     begin: every root above (export, job) holds new requests back -> those under way finish -> nodes are idle
 *     ...    the change, in one turn
 *     end:   the same roots go on, over the graph as it is now
 */
export async function withDrained<T>(nodes: Iterable<Node>, run: () => T | Promise<T>): Promise<T> {
  const roots = new Set<ChildParent>();
  const seen = new Set<Node>();
  for (const node of nodes) collect(node, roots, seen);
  for (const root of roots) root.drainBegin?.();
  try {
    for (const root of roots) await root.drained?.();
    for (const node of seen) await node.idle();
    return await run();
  } finally {
    for (const root of roots) root.drainEnd?.();
  }
}

function collect(node: Node, roots: Set<ChildParent>, seen: Set<Node>): void {
  if (seen.has(node)) return;
  seen.add(node);
  for (const { parent } of node.parents) {
    if (parent.parentNode === undefined) roots.add(parent);
    else collect(parent.parentNode, roots, seen);
  }
}
