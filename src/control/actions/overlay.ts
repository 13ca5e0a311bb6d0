import path from 'node:path';
import type { Child } from '../../block/child.ts';
import type { Node } from '../../block/node.ts';
import { Role } from '../../block/permissions.ts';
import { putOverlay, takeOverlay } from '../../block/rewire.ts';
import { CommandError } from '../command.ts';
import { imageFilename } from '../describe-node.ts';
import type { ControlHost } from '../host.ts';
import { findNode, withDoor } from '../lookup.ts';
import type { Action } from './action.ts';

/** An open node without backing goes above another one: an external snapshot. */
export function snapshotOverlay(
  host: ControlHost,
  given: { readonly node: string; readonly overlay: string },
): Action {
  let node: Node;
  let overlay: Node;
  return {
    ...placing(host, () => ({ node, overlay })),
    prepare: async () => {
      node = findNode(host.graph, { device: given.node, 'node-name': given.node });
      overlay = findNode(host.graph, { device: given.overlay, 'node-name': given.overlay });
      refuseOverlay(overlay);
      return [node, overlay];
    },
  };
}

export interface SnapshotFile {
  readonly device?: string | undefined;
  readonly 'node-name'?: string | undefined;
  readonly 'snapshot-file': string;
  readonly 'snapshot-node-name'?: string | undefined;
  readonly format: string;
  readonly mode: 'existing' | 'absolute-paths';
}

/** The same with an overlay that is created and opened on the way. */
export function snapshotFile(host: ControlHost, given: SnapshotFile): Action {
  const { graph } = host;
  let node: Node;
  let overlay: Node;
  return {
    ...placing(host, () => ({ node, overlay })),
    prepare: async () => {
      node = findNode(graph, given);
      const name = given['snapshot-node-name'];
      if (name !== undefined && graph.nodes.has(name)) refuse('New overlay node-name already in use');
      if (given.mode === 'absolute-paths') await createOverlay(host, node, given);
      overlay = await openOverlay(host, node, given);
      return [node, overlay];
    },
    abort: async () => {
      await graph.remove(overlay.name);
    },
  };
}

/** Putting the overlay there, once both nodes are known. */
function placing(
  host: ControlHost,
  nodes: () => { node: Node; overlay: Node },
): Pick<Action, 'apply' | 'undo' | 'commit'> {
  let moved: Child[] = [];
  return {
    apply: async () => {
      const { node, overlay } = nodes();
      if (!node.readOnly) await node.flush();
      refuseOverlay(overlay);
      moved = putOverlay(node, overlay);
    },
    undo: () => {
      const { node, overlay } = nodes();
      takeOverlay(node, overlay, moved);
    },
    commit: () => {
      void host.changed(nodes().overlay);
    },
  };
}

function refuseOverlay(overlay: Node): void {
  if (((overlay.driver.children['backing']?.roles ?? 0) & Role.cow) === 0)
    refuse('The overlay does not support backing images');
  if (overlay.children.has('backing')) refuse('The overlay already has a backing image');
  const [edge] = overlay.parents;
  if (edge !== undefined) refuse(`The overlay is already in use by ${edge.parent.label}`);
}

async function createOverlay(host: ControlHost, node: Node, given: SnapshotFile): Promise<void> {
  await withDoor(host.graph, node, 0, async () => {
    await host.createImage({
      filename: path.resolve(given['snapshot-file']),
      format: given.format,
      size: node.size,
      options: { backing_file: imageFilename(node), backing_fmt: node.driver.name },
    });
  });
}

function openOverlay({ graph }: ControlHost, node: Node, given: SnapshotFile): Promise<Node> {
  const { common } = node;
  const name = given['snapshot-node-name'];
  return graph.open({
    driver: given.format,
    ...(name === undefined ? {} : { 'node-name': name }),
    file: { driver: 'file', filename: path.resolve(given['snapshot-file']) },
    backing: null,
    discard: common.discard,
    'detect-zeroes': common.detectZeroes,
    'cache.direct': common.cacheDirect,
    'cache.no-flush': common.cacheNoFlush,
  });
}

function refuse(why: string): never {
  throw new CommandError('GenericError', why);
}
