import type { Child } from '../../../src/block/child.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import type { OpenContext, RequestDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { Permission, Role } from '../../../src/block/permissions.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { bool, choice, integer, optional } from '../../../src/block/schema.ts';
import { Quorum } from './quorum.ts';

const OPTIONS = {
  'vote-threshold': integer('Disks that must agree', 1),
  'read-pattern': optional(
    choice(['quorum', 'fifo'], 'Read all disks and let them vote, or the first that can be read'),
    'quorum',
  ),
  'rewrite-corrupted': optional(bool('Write what was voted for to disks that have something else'), false),
  blkverify: optional(bool('Two disks that must agree, for tests'), false),
};

function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<RequestDriver> {
  const { options, nodeName } = context;
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot open node "${nodeName}": ${why}`);
  };
  const children = listed(context);
  const threshold = options['vote-threshold'];
  const fifo = options['read-pattern'] === 'fifo';
  if (threshold > children.length)
    refuse(`vote-threshold is ${threshold}, must be at most ${children.length}, the number of children`);
  if (options.blkverify && (children.length !== 2 || threshold !== 2))
    refuse(`blkverify=on needs two children and vote-threshold=2`);
  if (options['rewrite-corrupted'] && (options.blkverify || fifo))
    refuse(`rewrite-corrupted=on can't be used with ${fifo ? 'read-pattern=fifo' : 'blkverify=on'}`);
  const [first] = children;
  const odd = children.find(({ size }) => size !== first?.size);
  if (odd !== undefined)
    refuse(`"${odd.node.name}" has ${odd.size} bytes, "${first?.node.name}" has ${first?.size}`);
  const rules = { threshold, fifo, rewrite: options['rewrite-corrupted'] };
  return Promise.resolve(
    new Quorum(children, rules, nodeName, (name, data) => {
      context.event(name, data);
    }),
  );
}

function listed(context: OpenContext<unknown>): Child[] {
  const children: Child[] = [];
  for (;;) {
    const child = context.givenChild(`children.${children.length}`);
    if (child === undefined || child === null) return children;
    children.push(child);
  }
}

export const quorumDriver = defineDriver({
  name: 'quorum',
  kind: 'filter',
  summary: 'Keeps several copies of a disk and reads what most of them agree on',
  options: OPTIONS,
  children: { 'children.*': { roles: Role.data, required: true, summary: 'The copies, all of one size' } },
  open,
  childPermissions: (_name, _roles, parent) => ({
    used: parent.used,
    shared: parent.shared & (Permission.consistentRead | Permission.writeUnchanged),
  }),
});
