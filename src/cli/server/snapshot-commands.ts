import { applySnapshot, snapshotsOf } from '../../block/internal-snapshots.ts';
import type { Node } from '../../block/node.ts';
import { Permission } from '../../block/permissions.ts';
import { text } from '../../block/schema.ts';
import { imageNode } from '../../control/actions/internal-snapshot.ts';
import { defineControlCommand } from '../../control/command.ts';
import type { ControlCommand } from '../../control/command.ts';
import { describeSnapshot } from '../../control/describe-node.ts';
import { findNode, withDoor } from '../../control/lookup.ts';
import { SNAPSHOT_APPLY, SNAPSHOT_LIST } from './command-names.ts';
import type { Server } from './server.ts';

/** What QEMU's command names do not have. */
export function snapshotCommands(server: Server): readonly ControlCommand[] {
  const { graph } = server;
  return [
    defineControlCommand({
      name: SNAPSHOT_LIST,
      summary: 'Lists the snapshots inside an image',
      arguments: { device: text('Node') },
      run: async ({ device }) =>
        snapshotsOf(imageNode(findNode(graph, { device })))
          .list()
          .map(describeSnapshot),
    }),
    defineControlCommand({
      name: SNAPSHOT_APPLY,
      summary: 'Makes the disk what it was when a snapshot inside its image was taken',
      arguments: { device: text('Node'), snapshot: text('Id or name of the snapshot') },
      run: async ({ device, snapshot }) => {
        await apply(server, imageNode(findNode(graph, { device })), snapshot);
        return {};
      },
    }),
  ];
}

async function apply(server: Server, node: Node, snapshot: string): Promise<void> {
  const { graph, exports } = server;
  const shown = exports.over(node);
  const keepsSize = snapshotsOf(node)
    .list()
    .every(({ diskSize }) => diskSize === node.size);
  if (!keepsSize) for (const { views } of shown) await views.partitions.close();
  await withDoor(graph, node, Permission.write | Permission.resize, () =>
    applySnapshot(graph, node, snapshot),
  );
  for (const { file, place } of shown) {
    file.touch();
    await place?.mounted?.invalidate(file);
  }
}
