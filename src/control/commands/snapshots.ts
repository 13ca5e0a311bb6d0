import { changeSnapshots, snapshotsOf } from '../../block/internal-snapshots.ts';
import { Permission } from '../../block/permissions.ts';
import { choice, optional, text } from '../../block/schema.ts';
import { runActions } from '../actions/action.ts';
import type { Action } from '../actions/action.ts';
import { imageNode, internalSnapshot } from '../actions/internal-snapshot.ts';
import { snapshotFile, snapshotOverlay } from '../actions/overlay.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import { describeSnapshot } from '../describe-node.ts';
import type { ControlHost } from '../host.ts';
import { findNode, withDoor } from '../lookup.ts';

export const OVERLAY = {
  node: text('Node that becomes the backing node'),
  overlay: text('Node without backing that goes above it'),
} as const;

export const SNAPSHOT_FILE = {
  device: optional(text('Node that becomes the backing node')),
  'node-name': optional(text('The same')),
  'snapshot-file': text('File of the overlay'),
  'snapshot-node-name': optional(text('Name of its node')),
  format: optional(text('Format of the overlay'), 'qcow2'),
  mode: optional(
    choice(['existing', 'absolute-paths'], 'Whether the file is there, or is to be created'),
    'absolute-paths',
  ),
} as const;

export const INTERNAL = { device: text('Node'), name: text('Name of the snapshot') } as const;

/** Snapshots outside and inside of images. */
export function snapshotCommands(host: ControlHost): readonly ControlCommand[] {
  const { graph } = host;
  const run = (action: Action): Promise<void> => runActions(graph, [action]);
  return [
    defineControlCommand({
      name: 'blockdev-snapshot',
      summary: 'Puts an open overlay above a node',
      arguments: OVERLAY,
      run: (given) => run(snapshotOverlay(host, given)),
    }),
    defineControlCommand({
      name: 'blockdev-snapshot-sync',
      summary: 'Creates an overlay and puts it above a node',
      arguments: SNAPSHOT_FILE,
      run: (given) => run(snapshotFile(host, given)),
    }),
    defineControlCommand({
      name: 'blockdev-snapshot-internal-sync',
      summary: 'Takes a snapshot inside the image',
      arguments: INTERNAL,
      run: (given) => run(internalSnapshot(graph, given)),
    }),
    deleteInternal(host),
    changeBackingFile(host),
  ];
}

function deleteInternal(host: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'blockdev-snapshot-delete-internal-sync',
    summary: 'Deletes a snapshot inside the image and tells what it was',
    arguments: {
      device: text('Node'),
      id: optional(text('Id of the snapshot')),
      name: optional(text('Name of the snapshot')),
    },
    run: async ({ device, id, name }) => {
      const node = imageNode(findNode(host.graph, { device }));
      if (id === undefined && name === undefined)
        throw new CommandError('GenericError', 'Name or id must be provided');
      const found = snapshotsOf(node)
        .list()
        .find((each) => (id ?? each.id) === each.id && (name ?? each.name) === each.name);
      if (found === undefined) {
        const text = `Snapshot with id '${id ?? 'null'}' and name '${name ?? 'null'}' does not exist on device '${device}'`;
        throw new CommandError('GenericError', text);
      }
      await host.beforeSnapshotDeletion(node, found.id);
      await changeSnapshots(host.graph, node, (snapshots) => snapshots.delete(found.id));
      return describeSnapshot(found);
    },
  });
}

function changeBackingFile({ graph }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'change-backing-file',
    summary: 'Changes the name of the backing file that stands in an image',
    arguments: {
      device: text('Node at the top of the chain'),
      'image-node-name': text('Node of the image'),
      'backing-file': text('The name; empty for none'),
    },
    run: async ({ device, 'image-node-name': name, 'backing-file': filename }) => {
      findNode(graph, { device, 'node-name': device });
      const node = findNode(graph, { 'node-name': name });
      const { impl } = node;
      if (impl.family !== 'mapping' || impl.changeBacking === undefined)
        throw new CommandError('GenericError', `Driver '${node.driver.name}' can't change the backing file`);
      if (node.cow === undefined)
        throw new CommandError(
          'GenericError',
          'not allowing backing file change on an image without a backing file',
        );
      const format = node.cow.node.driver.name;
      await withDoor(graph, node, Permission.consistentRead, () =>
        graph.change([node], () => impl.changeBacking?.(filename === '' ? undefined : filename, format)),
      );
    },
  });
}
