/**
 * Permissions of the whole graph, worked out before anything changes.
 *
 *     parents' edges: used, shared  -> node: check every pair, ask the driver (it takes its locks) -> children's edges ...
 *
 * Everything here runs in one turn. When any node refuses, all drivers that had agreed are told to forget it and the
 * graph is as it was.
 */
import type { Child } from './child.ts';
import type { PermissionChange } from './driver.ts';
import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { childPermissions } from './permission-defaults.ts';
import { ALL_PERMISSIONS, Permission, permissionNames } from './permissions.ts';
import type { PermissionPair, Permissions } from './permissions.ts';

const WRITING = Permission.write | Permission.writeUnchanged | Permission.resize;

/** New permissions for edges that are to change, or to be added: a plan, not yet in force. */
export type Plan = Map<Child, PermissionPair>;

/** Works out and puts in force the permissions below `starts`, with `plan` already holding what is asked for. */
export function applyPermissions(starts: readonly Node[], plan: Plan = new Map()): void {
  const changes: PermissionChange[] = [];
  try {
    for (const node of inOrder(withFiltersAbove(starts))) visit(node, plan, changes);
  } catch (error) {
    for (const change of changes.reverse()) change.abort();
    throw error;
  }
  for (const [child, { used, shared }] of plan) {
    child.used = used;
    child.shared = shared;
  }
  for (const change of changes) change.commit();
}

/** The permissions that all parents of a node use together, and share together. */
export function cumulative(node: Node, plan: Plan = new Map()): PermissionPair {
  let used = 0;
  let shared = ALL_PERMISSIONS;
  for (const edge of node.parents) {
    const pair = pairOf(edge, plan);
    used |= pair.used;
    shared &= pair.shared;
  }
  return { used, shared };
}

function visit(node: Node, plan: Plan, changes: PermissionChange[]): void {
  checkPairs(node, plan);
  const wanted = cumulative(node, plan);
  if (node.readOnly && (wanted.used & WRITING) !== 0) refuseReadOnly(node, plan);
  const change = node.impl.setPermissions?.(wanted);
  if (change !== undefined) changes.push(change);
  for (const child of node.children.values()) {
    const pair = childPermissions(node.driver, child, wanted, node.readOnly);
    plan.set(child, node.impl.adjustPermissions?.(child.name, pair) ?? pair);
  }
}

function checkPairs(node: Node, plan: Plan): void {
  for (const user of node.parents) {
    for (const holder of node.parents) {
      if (user === holder) continue;
      const refused = pairOf(user, plan).used & ~pairOf(holder, plan).shared;
      if (refused !== 0) throw conflict(node, user, holder, { refused, uses: pairOf(holder, plan).used });
    }
  }
}

function conflict(
  node: Node,
  user: Child,
  holder: Child,
  { refused, uses }: { refused: Permissions; uses: Permissions },
): BlockError {
  const names = permissionNames(refused).join(', ');
  const held = permissionNames(uses).join(', ');
  const holding = held === '' ? 'uses nothing' : `uses "${held}"`;
  const text =
    `Cannot use node "${node.name}" with "${names}": ${edgeLabel(user)} wants it, ` +
    `${edgeLabel(holder)} ${holding} and does not share it`;
  return new BlockError('EPERM', text, { node: node.name });
}

function refuseReadOnly(node: Node, plan: Plan): never {
  const writer = [...node.parents].find((edge) => (pairOf(edge, plan).used & WRITING) !== 0);
  const who = writer === undefined ? 'somebody' : edgeLabel(writer);
  throw new BlockError(
    'EROFS',
    `Cannot write to node "${node.name}": it is read-only, ${who} wants to write`,
    {
      node: node.name,
    },
  );
}

function pairOf(edge: Child, plan: Plan): PermissionPair {
  return plan.get(edge) ?? edge;
}

function edgeLabel(edge: Child): string {
  const { label, parentNode, isOpening } = edge.parent;
  return parentNode === undefined && isOpening !== true ? label : `${label} (as its "${edge.name}")`;
}

/** A filter can be written when what it filters can: what it asks for may change with that. */
function withFiltersAbove(starts: readonly Node[]): Set<Node> {
  const all = new Set(starts);
  for (const node of all) {
    for (const { parent } of node.parents)
      if (parent.parentNode?.impl.family === 'filter') all.add(parent.parentNode);
  }
  return all;
}

/** Every node below `starts`, parents before children. */
function inOrder(starts: Iterable<Node>): Node[] {
  const done = new Set<Node>();
  const order: Node[] = [];
  const enter = (node: Node): void => {
    if (done.has(node)) return;
    done.add(node);
    for (const child of node.children.values()) enter(child.node);
    order.push(node);
  };
  for (const node of starts) enter(node);
  return order.reverse();
}
