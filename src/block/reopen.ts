/**
 * Other options for open nodes, several in one transaction:
 *
 *   1. each driver prepares (opens what it needs, refuses what it can't), nothing in force yet
 *   2. permissions of the whole with the new read-only flags: any refusal undoes 1
 *   3. commit: nothing can fail any more
 *
 * A child that was opened inline follows what it inherits; one that was given by name keeps its own options.
 */
import type { PermissionChange } from './driver.ts';
import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { isTree, resolveCommon, takeCommon, takeDeclared, takeOption } from './options.ts';
import type { OptionsTree } from './options.ts';
import type { CommonOptions } from './schema.ts';
import { applyPermissions } from './transaction.ts';

export interface ReopenRequest {
  readonly node: Node;
  /** All of the node's options as wanted: what is left out takes its default. Children stay as they are. */
  readonly options: OptionsTree;
}

interface Step {
  readonly node: Node;
  readonly common: CommonOptions;
  readonly before: CommonOptions;
  readonly options: OptionsTree;
  change?: PermissionChange | undefined;
}

/** The caller has drained everything above the nodes. */
export async function reopenNodes(requests: readonly ReopenRequest[]): Promise<void> {
  const steps = requests.flatMap(({ node, options }) => plan(node, options, undefined));
  try {
    for (const step of steps) await prepare(step);
    for (const step of steps) step.node.common = step.common;
    applyPermissions(steps.map((step) => step.node));
  } catch (error) {
    for (const step of steps.reverse()) {
      step.node.common = step.before;
      step.change?.abort();
    }
    throw error;
  }
  for (const step of steps) {
    step.change?.commit();
    step.node.options = step.options;
  }
}

/** The node and the inline children whose inherited options change with it, children first. */
function plan(
  node: Node,
  options: OptionsTree,
  parent: { common: CommonOptions; roles: number } | undefined,
): Step[] {
  const tree = structuredClone(options);
  takeOption(tree, 'driver');
  const common = resolveCommon(takeCommon(tree, node.label), parent?.common, parent?.roles ?? 0);
  const steps: Step[] = [];
  for (const [name, child] of node.children) {
    const inline = node.options[name];
    if (typeof inline === 'string') continue;
    const below = isTree(options[name]) ? options[name] : isTree(inline) ? inline : child.node.options;
    steps.push(...plan(child.node, below, { common, roles: child.roles }));
  }
  return [...steps, { node, common, before: node.common, options }];
}

async function prepare(step: Step): Promise<void> {
  const { node, options, common } = step;
  const tree = structuredClone(options);
  takeOption(tree, 'driver');
  takeCommon(tree, node.label);
  const own = takeDeclared(tree, node.driver.options, node.label);
  if (node.impl.reopen !== undefined) {
    step.change = await node.impl.reopen(common, own);
    return;
  }
  const current = structuredClone(node.options);
  takeOption(current, 'driver');
  takeCommon(current, node.label);
  const before = takeDeclared(current, node.driver.options, node.label);
  for (const [name, value] of Object.entries(own)) {
    if (JSON.stringify(value) === JSON.stringify(before[name])) continue;
    throw new BlockError(
      'ENOTSUP',
      `Cannot reopen ${node.label}: driver "${node.driver.name}" can't change "${name}"`,
    );
  }
  if (common.cacheDirect !== step.before.cacheDirect && node.impl.family === 'request') {
    throw new BlockError(
      'ENOTSUP',
      `Cannot reopen ${node.label}: driver "${node.driver.name}" can't change "cache.direct"`,
    );
  }
}
