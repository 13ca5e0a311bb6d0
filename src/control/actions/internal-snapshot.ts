import type { SnapshotInfo } from '../../block/snapshot-capability.ts';
import type { Graph } from '../../block/graph.ts';
import { nodeWithSnapshots, snapshotsOf } from '../../block/internal-snapshots.ts';
import type { Node } from '../../block/node.ts';
import { CommandError } from '../command.ts';
import { findNode } from '../lookup.ts';
import type { Action } from './action.ts';

export interface InternalSnapshot {
  readonly device: string;
  readonly name: string;
}

/** A snapshot inside the image. */
export function internalSnapshot(graph: Graph, { device, name }: InternalSnapshot): Action {
  let node: Node;
  let taken: SnapshotInfo | undefined;
  return {
    prepare: async () => {
      if (name === '') refuse('Name is empty');
      node = imageNode(findNode(graph, { device }));
      return [node];
    },
    apply: async () => {
      const snapshots = snapshotsOf(node);
      if (node.readOnly) refuse(`Device '${device}' is read only`);
      if (snapshots.list().some((snapshot) => snapshot.name === name))
        refuse(`Snapshot with name '${name}' already exists on device '${device}'`);
      taken = await snapshots.create(name);
    },
    undo: async () => {
      if (taken !== undefined) await snapshotsOf(node).delete(taken.id);
    },
  };
}

/** Through filters to the image itself. */
export function imageNode(node: Node): Node {
  const found = nodeWithSnapshots(node);
  if (found !== undefined) return found;
  return refuse(
    `Block format '${node.driver.name}' used by device '${node.name}' does not support internal snapshots`,
  );
}

function refuse(why: string): never {
  throw new CommandError('GenericError', why);
}
