import type { Node } from '../../block/node.ts';
import { expandDotted, isTree } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import { Permission } from '../../block/permissions.ts';
import { integer, list, optional, size, text } from '../../block/schema.ts';
import { WriteWatch } from '../../block/write-watch.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost } from '../host.ts';
import { findNode, nodeNamed, withDoor } from '../lookup.ts';
import { refuseOtherTypesInNode } from '../wrong-argument.ts';
import * as v from 'valibot';

const SECTOR = 512;
const TREE = v.custom<OptionsTree>(isTree, 'must be an object');

/** Nodes: made, changed and removed. */
export function blockdevCommands(host: ControlHost): readonly ControlCommand[] {
  return [add(host), remove(host), reopen(host), change(host), resize(host), threshold(host)];
}

function add(host: ControlHost): ControlCommand {
  const { graph } = host;
  return defineControlCommand({
    name: 'blockdev-add',
    summary: 'Opens a node from its options',
    arguments: { driver: text('Driver of the node'), 'node-name': optional(text('Its name')) },
    open: true,
    run: async (options) => {
      const { driver, 'node-name': name } = options;
      if (name === undefined)
        throw new CommandError('GenericError', "'node-name' must be specified for the root node");
      if (!graph.drivers.has(driver))
        throw new CommandError('GenericError', `Parameter 'driver' does not accept value '${driver}'`);
      if (graph.nodes.has(name))
        throw new CommandError('GenericError', `Duplicate nodes with node-name='${name}'`);
      const tree = expandDotted(options);
      refuseOtherTypesInNode(graph.drivers, tree);
      await host.openNode(tree);
    },
  });
}

function remove({ graph }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'blockdev-del',
    summary: 'Closes a node that nobody uses',
    arguments: { 'node-name': text('Its name') },
    run: async ({ 'node-name': name }) => {
      const node = nodeNamed(graph, name);
      if (!graph.isOwned(node))
        throw new CommandError('GenericError', `Node ${name} is not owned by the monitor`);
      const [edge] = node.parents;
      if (edge !== undefined)
        throw new CommandError('GenericError', `Node ${name} is in use by ${edge.parent.label}`);
      await graph.remove(name);
    },
  });
}

function reopen(host: ControlHost): ControlCommand {
  const { graph } = host;
  return defineControlCommand({
    name: 'blockdev-reopen',
    summary: 'Gives open nodes other options and children, all of them or none',
    arguments: { options: list(TREE, 'All options of each node, its name included') },
    run: async ({ options }) => {
      const requests = options.map(expandDotted).map((tree, index) => {
        refuseOtherTypesInNode(graph.drivers, tree, `options[${index}].`);
        const name = tree['node-name'];
        if (typeof name !== 'string') throw new CommandError('GenericError', 'node-name not specified');
        return { node: nodeNamed(graph, name), options: tree };
      });
      await graph.reopen(requests);
      for (const { node } of requests) await host.changed(node);
    },
  });
}

function change(host: ControlHost): ControlCommand {
  const { graph } = host;
  return defineControlCommand({
    name: 'x-blockdev-change',
    summary:
      'Replaces the child of a node, or the node of an export; without node a child that may go is removed',
    arguments: {
      parent: text('Node whose child is changed, or export'),
      child: optional(text('Name of the child')),
      node: optional(text('Node that is to be the child')),
    },
    run: async ({ parent, child, node }) => {
      const isExport = !graph.nodes.has(parent) && host.exports.list().some(({ id }) => id === parent);
      if (isExport && node !== undefined) return host.exports.setNode(parent, nodeNamed(graph, node));
      const above = findNode(graph, { device: parent, 'node-name': parent });
      if (child === undefined && node === undefined)
        throw new CommandError('GenericError', 'Either child or node must be specified');
      const to = node === undefined ? undefined : graph.nodes.get(node);
      if (node !== undefined && to === undefined)
        throw new CommandError('GenericError', `Node '${node}' not found`);
      if (above.impl.childrenChanged !== undefined && (child === undefined || to === undefined)) {
        if (to !== undefined) await graph.addChild(above, to);
        else if (child !== undefined) await graph.removeChild(above, child);
        await host.changed(above);
        return;
      }
      const name = child ?? freeChild(above);
      if (to === undefined && !above.children.has(name))
        throw new CommandError('GenericError', `Node '${parent}' does not have child '${name}'`);
      await graph.setChild(above, name, to);
      await host.changed(above);
    },
  });
}

function freeChild(node: Node): string {
  const free = Object.keys(node.driver.children).find((name) => !node.children.has(name));
  if (free !== undefined && !free.includes('*')) return free;
  throw new CommandError('GenericError', `Node '${node.name}' does not support adding a child`);
}

function resize(host: ControlHost): ControlCommand {
  const { graph } = host;
  return defineControlCommand({
    name: 'block_resize',
    summary: 'Changes the size of a node that may be in use',
    arguments: {
      device: optional(text('Name of the node')),
      'node-name': optional(text('Name of the node')),
      size: size('New size in bytes'),
    },
    run: async ({ size: bytes, ...given }) => {
      const node = findNode(graph, given);
      if (bytes % SECTOR !== 0)
        throw new CommandError('GenericError', `The new size must be a multiple of ${SECTOR}`);
      await host.beforeResize(node);
      await withDoor(graph, node, Permission.resize, (door) =>
        graph.change([node], () => door.node.resize(bytes, true)),
      );
      await host.changed(node);
    },
  });
}

function threshold({ graph, emit }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'block-set-write-threshold',
    summary: 'Tells by an event, once, when a write ends beyond a place; 0: no more',
    arguments: {
      'node-name': text('Name of the node'),
      'write-threshold': integer('Bytes from its start'),
    },
    run: async ({ 'node-name': name, 'write-threshold': bytes }) => {
      const node = graph.nodes.get(name);
      if (node === undefined) throw new CommandError('GenericError', `Device '${name}' not found`);
      await graph.change([node], () => {
        const watch = (node.watch ??= new WriteWatch());
        watch.threshold = bytes;
        watch.onThreshold = (exceeded, limit) => {
          const data = { 'node-name': name, 'amount-exceeded': exceeded, 'write-threshold': limit };
          emit('BLOCK_WRITE_THRESHOLD', data);
        };
      });
    },
  });
}
