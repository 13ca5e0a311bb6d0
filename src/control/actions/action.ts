import type { Graph } from '../../block/graph.ts';
import type { Node } from '../../block/node.ts';

/**
 * Something that can be done together with others, all or none:
 *
 *   prepare   of each in turn: opens what is needed, looks at what was given. Nothing in force yet.
 *   apply     of each in turn, with nothing under way above any of the nodes; undo of those before when one fails
 *   then      commit of all; or abort of all that were prepared
 */
export interface Action {
  /** The nodes above which nothing may be under way. Throws with nothing left behind. */
  prepare(): Promise<readonly Node[]>;
  apply(): Promise<void> | void;
  undo(): Promise<void> | void;
  /** Does not fail. */
  commit?(): void;
  /** Takes `prepare` back. */
  abort?(): Promise<void>;
}

/** Runs actions as one. Rejects with the first error, everything as it was then. */
export async function runActions(graph: Graph, actions: readonly Action[]): Promise<void> {
  const prepared: Action[] = [];
  try {
    const nodes = new Set<Node>();
    for (const action of actions) {
      for (const node of await action.prepare()) nodes.add(node);
      prepared.push(action);
    }
    await graph.change([...nodes], () => applyAll(prepared));
  } catch (error) {
    for (const action of prepared.toReversed()) await action.abort?.().catch(() => undefined);
    throw error;
  }
  for (const action of prepared) action.commit?.();
}

async function applyAll(actions: readonly Action[]): Promise<void> {
  const applied: Action[] = [];
  try {
    for (const action of actions) {
      await action.apply();
      applied.push(action);
    }
  } catch (error) {
    for (const action of applied.toReversed()) await action.undo();
    throw error;
  }
}
