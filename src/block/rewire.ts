/**
 * Changes of edges between open nodes. The caller has drained what is above. Each runs in one turn, whole or not at all:
 * edges are moved first, then roles, cycles and permissions of the result are looked at, and moved back when it won't do.
 */
import { Child } from './child.ts';
import type { ChildSpec } from './driver.ts';
import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { Role } from './permissions.ts';
import { refuseRoles } from './roles.ts';
import { applyPermissions } from './transaction.ts';

/** Takes one change of an edge back. */
export type Undo = () => void;

/** One child of a node is to be another node, or none at all. */
export interface ChildChange {
  readonly node: Node;
  readonly name: string;
  readonly to: Node | undefined;
}

/** Whether `below` can be reached from `top` (a node reaches itself). */
export function reaches(top: Node, below: Node, seen = new Set<Node>()): boolean {
  if (top === below) return true;
  if (seen.has(top)) return false;
  seen.add(top);
  for (const child of top.children.values()) if (reaches(child.node, below, seen)) return true;
  return false;
}

/** Points edges at another node. All of them move, or none. */
export function moveEdges(edges: readonly Child[], to: Node): void {
  const touched = new Set([to]);
  for (const edge of edges) {
    touched.add(edge.node);
    if (edge.parent.parentNode !== undefined) touched.add(edge.parent.parentNode);
  }
  wholly((undo) => {
    for (const edge of edges) undo.push(point(edge, to));
    for (const edge of edges) refuseCycle(edge);
    applyPermissions([...touched]);
  });
}

/** Every parent of `from` gets `to` instead, but for those that `to` itself stands on. */
export function replaceNode(from: Node, to: Node): void {
  const edges = [...from.parents].filter((edge) => {
    const parent = edge.parent.parentNode;
    return parent === undefined || !reaches(to, parent);
  });
  moveEdges(edges, to);
}

/** Gives `node` another backing node, or none. Returns the node that it had below. */
export function setBacking(node: Node, to: Node | undefined): Node | undefined {
  return setChild({ node, name: 'backing', to });
}

/** Makes one child another node, or none where it may go. Returns the node that it was. */
export function setChild({ node, name, to }: ChildChange): Node | undefined {
  const old = node.children.get(name)?.node;
  wholly((undo) => {
    undo.push(changeChild({ node, name, to }));
    refuseCycle(node.children.get(name));
    applyPermissions(old === undefined ? [node] : [node, old]);
  });
  return old;
}

/**
 * Puts an overlay without backing node above a node: its parents go to the overlay, it becomes the overlay's backing. Returns
 * the parents that moved.
 */
export function putOverlay(node: Node, overlay: Node): Child[] {
  const moved = [...node.parents];
  wholly((undo) => {
    undo.push(changeChild({ node: overlay, name: 'backing', to: node }));
    refuseCycle(overlay.children.get('backing'));
    replaceNode(node, overlay);
  });
  return moved;
}

/** Takes an overlay away again: `moved` go back to the node below. */
export function takeOverlay(node: Node, overlay: Node, moved: readonly Child[]): void {
  moveEdges(
    moved.filter((edge) => edge.node === overlay),
    node,
  );
  setBacking(overlay, undefined);
}

/** Adds `to` to the list of children (`children.*`) of a node, under the next number. Returns its name. */
export function addListed(node: Node, to: Node): string {
  const [pattern, spec] = listOf(node);
  let number = 0;
  while (node.children.has(`${pattern}${number}`)) number += 1;
  const edge = new Child({ name: `${pattern}${number}`, parent: node, roles: spec.roles, node: to });
  changeListed(node, () => link(node, edge));
  return edge.name;
}

/** Takes a child out of the list. Returns the node that it was. */
export function removeListed(node: Node, name: string): Node {
  const [pattern] = listOf(node);
  const edge = node.children.get(name);
  if (edge === undefined || !name.startsWith(pattern))
    throw new BlockError('ENOENT', `Cannot remove child "${name}" of ${node.label}: it has no such child`);
  changeListed(node, () => dropChild(node, edge), edge.node);
  return edge.node;
}

function listOf(node: Node): [string, ChildSpec] {
  const found = Object.entries(node.driver.children).find(([name]) => name.endsWith('.*'));
  if (found !== undefined && node.impl.childrenChanged !== undefined)
    return [found[0].slice(0, -1), found[1]];
  const text = `Cannot change the children of ${node.label}: driver "${node.driver.name}" has no list of them`;
  throw new BlockError('ENOTSUP', text);
}

function changeListed(node: Node, change: () => Undo, touched?: Node): void {
  const tell = (): void => node.impl.childrenChanged?.([...node.children.values()]);
  wholly((undo) => {
    undo.push(tell, change());
    for (const edge of node.children.values()) refuseCycle(edge);
    tell();
    applyPermissions(touched === undefined ? [node] : [node, touched]);
  });
}

/** Runs a change that notes how each of its steps is taken back; when it throws, they are, last one first. */
export function wholly(change: (undo: Undo[]) => void): void {
  const undo: Undo[] = [];
  try {
    change(undo);
  } catch (error) {
    for (const step of undo.reverse()) step();
    throw error;
  }
}

/**
 * Sets, moves or removes one child; only a backing child may come and go. Cycles and permissions are the caller's business,
 * who must take it back when they don't allow it. Throws with nothing changed.
 */
export function changeChild({ node, name, to }: ChildChange): Undo {
  const edge = node.children.get(name);
  const spec = node.driver.children[name];
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot change child "${name}" of ${node.label}: ${why}`);
  };
  if (spec === undefined && edge === undefined) refuse(`driver "${node.driver.name}" has no such child`);
  if (edge !== undefined && to !== undefined) return point(edge, to);
  if (edge === undefined && to === undefined) return () => undefined;
  if (((edge?.roles ?? spec?.roles ?? 0) & Role.cow) === 0)
    refuse('it can be another node, but not come or go');
  return edge === undefined ? addBacking({ node, name, to }) : dropChild(node, edge);
}

/** Throws when a node stands on itself through this edge. */
export function refuseCycle(edge: Child | undefined): void {
  const parent = edge?.parent.parentNode;
  if (edge === undefined || parent === undefined || !reaches(edge.node, parent)) return;
  throw new BlockError(
    'EINVAL',
    `Cannot put node "${edge.node.name}" below node "${parent.name}": it would be a cycle`,
  );
}

function addBacking({ node, name, to }: ChildChange): Undo {
  if (to === undefined) return () => undefined;
  return link(node, new Child({ name, parent: node, roles: Role.cow, node: to }));
}

function link(node: Node, edge: Child): Undo {
  refuseRoles(node.label, node.children.values(), edge);
  node.setChild(edge.name, edge);
  edge.node.parents.add(edge);
  return () => {
    node.setChild(edge.name, undefined);
    edge.node.parents.delete(edge);
  };
}

function dropChild(node: Node, edge: Child): Undo {
  node.setChild(edge.name, undefined);
  edge.node.parents.delete(edge);
  return () => {
    node.setChild(edge.name, edge);
    edge.node.parents.add(edge);
  };
}

function point(edge: Child, to: Node): Undo {
  const from = edge.node;
  from.parents.delete(edge);
  edge.node = to;
  to.parents.add(edge);
  return () => {
    to.parents.delete(edge);
    edge.node = from;
    from.parents.add(edge);
  };
}
