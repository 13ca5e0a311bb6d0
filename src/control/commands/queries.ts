import type { Node } from '../../block/node.ts';
import { permissionNames } from '../../block/permissions.ts';
import { bool, optional } from '../../block/schema.ts';
import { defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import { describeBitmap } from '../describe-bitmap.ts';
import { describeGraph } from '../describe-graph.ts';
import { describeNode, imageFilename } from '../describe-node.ts';
import type { ControlHost } from '../host.ts';
import { blockStats } from './block-stats.ts';

/** Not QEMU's. */
export const GRAPH_COMMAND = 'x-blockfuse-graph';

/** What there is, in QEMU's shapes. */
export function queryCommands(host: ControlHost): readonly ControlCommand[] {
  const { graph, exports } = host;
  return [
    defineControlCommand({
      name: 'query-named-block-nodes',
      summary: 'Describes every node',
      arguments: { flat: optional(bool('Leave out the backing images of each'), false) },
      run: ({ flat }) => Promise.all([...graph.nodes.values()].map((node) => blockDevice(node, !flat))),
    }),
    defineControlCommand({
      name: 'query-block',
      summary: 'Describes what is exported',
      arguments: {},
      run: () =>
        Promise.all(
          exports.list().map(async ({ id, nodeName }) => ({
            device: id,
            qdev: '',
            type: 'unknown',
            removable: false,
            locked: false,
            inserted: await blockDevice(graph.node(nodeName), true),
          })),
        ),
    }),
    defineControlCommand({
      name: 'query-blockstats',
      summary: 'Counts what went through exported nodes, or through every node',
      arguments: { 'query-nodes': optional(bool('Every node'), false) },
      run: async ({ 'query-nodes': all }) => {
        if (all) return [...graph.nodes.values()].map((node) => blockStats(node));
        return exports
          .list()
          .map(({ id, nodeName }) => ({ device: id, ...blockStats(graph.node(nodeName)) }));
      },
    }),
    defineControlCommand({
      name: GRAPH_COMMAND,
      summary: 'Nodes, edges with roles and permissions, and who holds them: what a picture needs',
      arguments: {},
      run: async () => describeGraph(host),
    }),
    defineControlCommand({
      name: 'x-debug-query-block-graph',
      summary: 'Nodes, who holds them, and with which permissions',
      arguments: {},
      run: async () => blockGraph(host),
    }),
  ];
}

type Described = Readonly<Record<string, unknown>>;

async function blockDevice(node: Node, nested: boolean): Promise<Described> {
  const { common, watch, cow } = node;
  const bitmaps = [...(watch?.bitmaps.values() ?? [])].map(describeBitmap);
  return {
    'node-name': node.name,
    drv: node.driver.name,
    file: imageFilename(node),
    ro: node.readOnly,
    encrypted: false,
    cache: { writeback: true, direct: common.cacheDirect, 'no-flush': common.cacheNoFlush },
    detect_zeroes: common.detectZeroes,
    write_threshold: watch?.threshold ?? 0,
    backing_file_depth: depth(node),
    ...(cow === undefined ? {} : { backing_file: imageFilename(cow.node) }),
    ...(bitmaps.length === 0 ? {} : { 'dirty-bitmaps': bitmaps }),
    ...{ bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 },
    image: await describeImage(node, nested),
  };
}

async function describeImage(node: Node, nested: boolean): Promise<Described> {
  const image = await describeNode(node);
  if (!nested || node.cow === undefined) return image;
  return { ...image, 'backing-image': await describeImage(node.cow.node, true) };
}

function depth(node: Node): number {
  return node.cow === undefined ? 0 : depth(node.cow.node) + 1;
}

function blockGraph({ graph }: ControlHost): Described {
  const ids = new Map<object, number>();
  const nodes: Described[] = [];
  const idOf = (thing: object, type: string, name: string): number => {
    const known = ids.get(thing);
    if (known !== undefined) return known;
    ids.set(thing, ids.size + 1);
    nodes.push({ id: ids.size, type, name });
    return ids.size;
  };
  const edges = [...graph.nodes.values()].flatMap((node) => {
    const child = idOf(node, 'block-driver', node.name);
    return [...node.parents].map((edge) => {
      const { parentNode, label } = edge.parent;
      return {
        parent:
          parentNode === undefined
            ? idOf(edge.parent, 'block-backend', label)
            : idOf(parentNode, 'block-driver', parentNode.name),
        child,
        name: edge.name,
        perm: permissionNames(edge.used),
        'shared-perm': permissionNames(edge.shared),
      };
    });
  });
  return { nodes, edges };
}
