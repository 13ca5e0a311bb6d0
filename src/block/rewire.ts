/** Changes of edges between open nodes. The caller has drained what is above; each runs in one turn, whole or not at all. */
import { Child } from './child.ts';
import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { Role } from './permissions.ts';
import { applyPermissions } from './transaction.ts';

/** Whether `below` can be reached from `top` (a node reaches itself). */
export function reaches(top: Node, below: Node): boolean {
  if (top === below) return true;
  for (const child of top.children.values()) if (reaches(child.node, below)) return true;
  return false;
}

/** Points edges at another node. All of them move, or none. */
export function moveEdges(edges: readonly Child[], to: Node): void {
  const before = edges.map((edge) => edge.node);
  for (const edge of edges) {
    const parent = edge.parent.parentNode;
    if (parent !== undefined && reaches(to, parent)) {
      throw new BlockError(
        'EINVAL',
        `Cannot put node "${to.name}" below node "${parent.name}": it would be a cycle`,
      );
    }
  }
  for (const edge of edges) point(edge, to);
  try {
    applyPermissions([to, ...before]);
  } catch (error) {
    for (const [index, edge] of edges.entries()) {
      const old = before[index];
      if (old !== undefined) point(edge, old);
    }
    applyPermissions([to, ...before]);
    throw error;
  }
}

/** Every parent of `from` gets `to` instead, but for those that `to` itself stands on. */
export function replaceNode(from: Node, to: Node): void {
  const edges = [...from.parents].filter((edge) => {
    const parent = edge.parent.parentNode;
    return parent === undefined || !reaches(to, parent);
  });
  moveEdges(edges, to);
}

/** Gives `node` another backing node, or none. Returns the old edge, which holds nothing any more. */
export function setBacking(node: Node, to: Node | undefined): Child | undefined {
  const old = node.children.get('backing');
  if (to !== undefined && reaches(to, node)) {
    throw new BlockError(
      'EINVAL',
      `Cannot put node "${to.name}" below node "${node.name}": it would be a cycle`,
    );
  }
  const edge =
    to === undefined ? undefined : new Child({ name: 'backing', parent: node, roles: Role.cow, node: to });
  node.setChild('backing', edge);
  old?.node.parents.delete(old);
  edge?.node.parents.add(edge);
  const touched = [node, ...(old === undefined ? [] : [old.node])];
  try {
    applyPermissions(touched);
  } catch (error) {
    edge?.node.parents.delete(edge);
    if (old !== undefined) old.node.parents.add(old);
    node.setChild('backing', old);
    applyPermissions(touched);
    throw error;
  }
  return old;
}

function point(edge: Child, to: Node): void {
  edge.node.parents.delete(edge);
  edge.node = to;
  to.parents.add(edge);
}
