/**
 * Other options for open nodes, several in one transaction:
 *
 *   1. each driver prepares (opens what it needs, refuses what it can't), nothing in force yet; children first
 *      meanwhile formats may write back tables by themselves: those requests are waited for
 *   2. in one turn: edges as wanted, new read-only flags, permissions of the whole; any refusal undoes 1 and 2
 *   3. commit: nothing can fail any more
 *
 * A child that was opened inline follows what it inherits; one that was given by name keeps its own options.
 */
import type { PermissionChange } from './driver.ts';
import { allIdle } from './drain.ts';
import { BlockError } from './errors.ts';
import type { Node } from './node.ts';
import { takeCommon, takeDeclared, takeOption } from './options.ts';
import type { OptionsTree } from './options.ts';
import { planReopen } from './reopen-plan.ts';
import type { FindNode, ReopenStep } from './reopen-plan.ts';
import { changeChild, refuseCycle, wholly } from './rewire.ts';
import { applyPermissions } from './transaction.ts';

export interface ReopenRequest {
  readonly node: Node;
  /**
   * All of the node's options as wanted: what is left out takes its default. A child may name another node, a backing child
   * may be null; one that is left out stays.
   */
  readonly options: OptionsTree;
  /** All children stay, also those that the options name otherwise. */
  readonly keepsChildren?: boolean;
}

/** The caller has drained everything above the nodes. Returns the nodes that have lost a parent. */
export async function reopenNodes(requests: readonly ReopenRequest[], find: FindNode): Promise<Node[]> {
  const steps = requests.flatMap(({ node, options, keepsChildren = false }) =>
    planReopen(node, options, { find, keepsChildren }),
  );
  const changes: PermissionChange[] = [];
  try {
    for (const step of steps) {
      const change = await prepare(step);
      if (change !== undefined) changes.push(change);
    }
    await allIdle(new Set(steps.map(({ node }) => node)));
    const losers = putInForce(steps);
    for (const change of changes) change.commit();
    for (const step of steps) step.node.options = step.options;
    return losers;
  } catch (error) {
    for (const change of changes.reverse()) change.abort();
    throw error;
  }
}

function putInForce(steps: readonly ReopenStep[]): Node[] {
  const losers: Node[] = [];
  wholly((undo) => {
    for (const { node, children } of steps) {
      for (const { name, to } of children) {
        const old = node.children.get(name)?.node;
        if (old !== undefined) losers.push(old);
        undo.push(changeChild({ node, name, to }));
      }
    }
    for (const { node } of steps) for (const edge of node.children.values()) refuseCycle(edge);
    for (const { node, common } of steps) {
      const before = node.common;
      undo.push(() => {
        node.common = before;
      });
      node.common = common;
      settleReadOnly(node);
    }
    applyPermissions([...steps.map((step) => step.node), ...losers]);
  });
  return losers;
}

/** A format over a file that can only be read is read-only itself, if it may decide that. Its children come first. */
function settleReadOnly(node: Node): void {
  const { common } = node;
  const file = node.children.get('file');
  if (common.readOnly || !common.autoReadOnly || file?.node.readOnly !== true) return;
  node.common = { ...common, readOnly: true };
}

async function prepare(step: ReopenStep): Promise<PermissionChange | undefined> {
  const { node, common } = step;
  const own = ownOptions(node, step.options);
  if (common.readOnly && !node.readOnly) await node.impl.flush?.();
  if (node.impl.reopen !== undefined) return node.impl.reopen(common, own);
  const before = ownOptions(node, node.options);
  for (const [name, value] of Object.entries(own)) {
    if (JSON.stringify(value) === JSON.stringify(before[name])) continue;
    refuse(node, name);
  }
  if (common.cacheDirect !== node.common.cacheDirect && node.impl.family === 'request')
    refuse(node, 'cache.direct');
  return undefined;
}

function refuse(node: Node, option: string): never {
  const text = `Cannot reopen ${node.label}: driver "${node.driver.name}" can't change "${option}"`;
  throw new BlockError('ENOTSUP', text);
}

/** The driver's own options out of a whole tree; whatever is neither its own, common nor a child is an error. */
function ownOptions(node: Node, options: OptionsTree): Record<string, unknown> {
  const tree = structuredClone(options);
  const { driver } = node;
  const named = takeOption(tree, 'driver');
  if (named !== undefined && named !== driver.name)
    throw new BlockError('EINVAL', `Cannot reopen ${node.label}: its driver is "${driver.name}"`);
  takeCommon(tree, node.label);
  const own = takeDeclared(tree, driver.options, node.label);
  if (driver.children['file'] !== undefined) takeOption(tree, 'filename');
  const isChild = (key: string): boolean =>
    Object.keys(driver.children).some((name) => name === key || name.startsWith(`${key}.`));
  const unknown = Object.keys(tree).find((key) => !isChild(key));
  if (unknown === undefined) return own;
  const text = `Cannot reopen ${node.label}: driver "${driver.name}" has no option "${unknown}"`;
  throw new BlockError('EINVAL', text);
}
