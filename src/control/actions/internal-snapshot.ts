import type { SnapshotCapability, SnapshotInfo } from '../../block/driver.ts';
import type { Graph } from '../../block/graph.ts';
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
  let snapshots: SnapshotCapability;
  let taken: SnapshotInfo | undefined;
  return {
    prepare: async () => {
      node = findNode(graph, { device });
      if (name === '') refuse('Name is empty');
      snapshots = snapshotsOf(node);
      return [node];
    },
    apply: async () => {
      if (node.readOnly) refuse(`Device '${device}' is read only`);
      if (snapshots.list().some((snapshot) => snapshot.name === name))
        refuse(`Snapshot with name '${name}' already exists on device '${device}'`);
      taken = await snapshots.create(name);
    },
    undo: async () => {
      if (taken !== undefined) await snapshots.delete(taken.id);
    },
  };
}

/** Through filters to the image itself. */
export function snapshotsOf(node: Node): SnapshotCapability {
  const { impl } = node;
  if (impl.family === 'filter') return snapshotsOf(node.filteredChild().node);
  if (impl.family === 'mapping' && impl.snapshots !== undefined) return impl.snapshots;
  return refuse(
    `Block format '${node.driver.name}' used by device '${node.name}' does not support internal snapshots`,
  );
}

function refuse(why: string): never {
  throw new CommandError('GenericError', why);
}
