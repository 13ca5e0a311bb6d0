import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { isTree, resolveCommon, takeCommon, takeOption } from './options.ts';
import type { OptionsTree } from './options.ts';
import type { Child } from './child.ts';
import type { Roles } from './permissions.ts';
import type { CommonOptions } from './schema.ts';

export type FindNode = (name: string) => Node;

/** One node of a reopen: what it is to become. */
export interface ReopenStep {
  readonly node: Node;
  readonly common: CommonOptions;
  readonly options: OptionsTree;
  /** Children that are to be other nodes, or none (undefined). */
  readonly children: readonly { readonly name: string; readonly to: Node | undefined }[];
}

interface Heritage {
  readonly find: FindNode;
  readonly common?: CommonOptions;
  readonly roles?: Roles;
  /** Children stay whatever the options say of them: those may have been replaced since the node was opened with these. */
  readonly keepsChildren?: boolean;
}

/** The node, and the inline children whose inherited options change with it, children first. */
export function planReopen(node: Node, options: OptionsTree, heritage: Heritage): ReopenStep[] {
  const { find, roles = 0, keepsChildren = false } = heritage;
  const tree = structuredClone(options);
  takeOption(tree, 'driver');
  const given = takeCommon(tree, node.label);
  const name = given['node-name'];
  if (typeof name === 'string' && name !== node.name)
    throw new BlockError('EINVAL', `Cannot reopen ${node.label}: its name can't change to "${name}"`);
  const filter = node.driver.kind === 'filter' && given['discard'] === undefined;
  const common = resolveCommon(filter ? { ...given, discard: 'unmap' } : given, heritage.common, roles);
  const below: ReopenStep[] = [];
  const children: ReopenStep['children'][number][] = [];
  for (const child of new Set([...node.children.keys(), ...Object.keys(node.driver.children)])) {
    const wanted = keepsChildren ? undefined : valueAt(tree, child);
    const edge = node.children.get(child);
    if (wanted === null) children.push({ name: child, to: undefined });
    else if (typeof wanted === 'string') children.push({ name: child, to: find(wanted) });
    else if (edge !== undefined) below.push(...inline(node, edge, wanted, { find, common }));
    else if (wanted !== undefined) refuseInline(node, child);
  }
  const changed = children.filter(({ name: child, to }) => node.children.get(child)?.node !== to);
  return [...below, { node, common, options, children: changed }];
}

/** A child that was opened within its parent's options goes along, with the options given now or those it has. */
function inline(node: Node, edge: Child, wanted: unknown, heritage: Heritage): ReopenStep[] {
  const { node: below, roles } = edge;
  if (below.heirOf !== node) {
    if (wanted !== undefined) refuseInline(node, edge.name);
    return [];
  }
  if (isTree(wanted)) return planReopen(below, wanted, { ...heritage, roles });
  return planReopen(below, below.options, { ...heritage, roles, keepsChildren: true });
}

function refuseInline(node: Node, child: string): never {
  const text = `Cannot reopen ${node.label}: child "${child}" must be the name of a node, a new one is opened beforehand`;
  throw new BlockError('EINVAL', text);
}

function valueAt(tree: OptionsTree, name: string): unknown {
  return name.split('.').reduce<unknown>((at, part) => (isTree(at) ? at[part] : undefined), tree);
}
