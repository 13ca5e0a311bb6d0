/** Reopen, replace and removal, as qemu-storage-daemon's users know them; objects. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { logDriver } from '../../drivers/filter/log.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { nullCoDriver } from '../../drivers/protocol/null.ts';
import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { NO_LIMITS } from '../../src/block/limits.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALL_PERMISSIONS, Permission, Role } from '../../src/block/permissions.ts';
import { testGraph } from '../helpers/graph.ts';
import { shape, violations } from './random-graph.ts';

const DRIVERS = [rawDriver, nullCoDriver, logDriver];
const { consistentRead, write } = Permission;

/** A medium that may be write-protected, until somebody flips the switch. */
function switchDriver() {
  const medium = { protected: true };
  const driver = defineDriver({
    name: 'switch',
    kind: 'protocol',
    summary: 'A medium with a switch',
    options: {},
    children: {},
    open({ common }) {
      if (medium.protected && !common.readOnly && !common.autoReadOnly)
        throw new BlockError('EACCES', 'Cannot open "medium": it is write-protected');
      let readOnly = medium.protected && !common.readOnly;
      return Promise.resolve({
        family: 'request',
        size: 8192,
        limits: NO_LIMITS,
        get readOnly() {
          return readOnly;
        },
        read: () => Promise.resolve(),
        write: () => Promise.resolve(),
        flush: () => Promise.resolve(),
        close: () => Promise.resolve(),
        reopen(next) {
          const before = readOnly;
          readOnly = medium.protected && !next.readOnly;
          return Promise.resolve({
            commit: () => undefined,
            abort: () => {
              readOnly = before;
            },
          });
        },
      });
    },
  });
  return { driver, medium };
}

test('auto-read-only: a format over what must not be written is read-only, until reopened when it may', async (t) => {
  const { driver, medium } = switchDriver();
  const graph = testGraph(t, [...DRIVERS, driver]);
  const options = { driver: 'raw', 'auto-read-only': true, file: { driver: 'switch' } };
  await t.throwsAsync(graph.open({ ...options, 'auto-read-only': false }), { code: 'EACCES' });
  const node = await graph.open(options);
  t.true(node.readOnly);
  t.throws(() => graph.attachRoot(node, { name: 'w', used: write }), { code: 'EROFS' });
  medium.protected = false;
  await graph.reopen([{ node, options }]);
  t.false(node.readOnly);
  const root = graph.attachRoot(node, { name: 'w', used: consistentRead | write });
  await root.write(Buffer.alloc(10, 1), 5);
  medium.protected = true;
  await t.throwsAsync(graph.reopen([{ node, options }]), { code: 'EROFS' });
  await root.write(Buffer.alloc(10, 1), 5);
});

test('auto-read-only: a writer that comes makes what can be written by now writable, whatever is in between', async (t) => {
  const { driver, medium } = switchDriver();
  const graph = testGraph(t, [...DRIVERS, driver]);
  await graph.open({ driver: 'switch', 'node-name': 'file', 'auto-read-only': true });
  await graph.open({ driver: 'raw', 'node-name': 'disk', 'auto-read-only': true, file: 'file' });
  await graph.open({ driver: 'log', 'node-name': 'top', file: 'disk' });
  const fixed = { driver: 'raw', 'node-name': 'fixed', 'read-only': true, file: 'file' };
  const top = graph.node('top');
  await graph.allowWriting(top);
  t.true(top.readOnly, 'not yet');
  medium.protected = false;
  graph.attachRoot(top, { name: 'r', used: consistentRead });
  await graph.allowWriting(top);
  t.deepEqual(
    ['file', 'disk', 'top'].map((name) => graph.node(name).readOnly),
    [false, false, false],
  );
  const writer = graph.attachRoot(top, { name: 'w', used: consistentRead | write });
  await writer.write(Buffer.alloc(10, 1), 5);
  await graph.open(fixed);
  await graph.allowWriting(graph.node('fixed'));
  t.true(graph.node('fixed').readOnly, 'what was asked for stays');
});

test('auto-read-only: a node that takes the place of another, and one opened above, are made writable', async (t) => {
  const { driver, medium } = switchDriver();
  const graph = testGraph(t, [...DRIVERS, driver]);
  const options = { driver: 'raw', 'auto-read-only': true, file: { driver: 'switch' } };
  await graph.open({ ...options, 'node-name': 'one' });
  await graph.open({ ...options, 'node-name': 'two' });
  const disk = await graph.open({ driver: 'mem', size: 16384 });
  const root = graph.attachRoot(disk, { name: 'w', used: consistentRead | write });
  await t.throwsAsync(graph.moveRoot(root, graph.node('one')), { code: 'EROFS' });
  medium.protected = false;
  await graph.moveRoot(root, graph.node('one'));
  await root.write(Buffer.alloc(10, 1), 5);
  const above = await graph.open({ driver: 'raw', file: 'two' });
  t.false(above.readOnly);
});

test('reopen: what took the place of a child stays, though the options that the node was opened with say otherwise', async (t) => {
  const graph = testGraph(t, DRIVERS);
  await image(graph);
  const overlay = {
    driver: 'evicting',
    'node-name': 'over',
    size: 16384,
    seed: 4,
    'has-backing': true,
    file: { driver: 'mem' },
    backing: null,
  };
  const over = await graph.open(overlay);
  await graph.setBacking(over, graph.node('top'));
  await graph.setReadOnly(over, true);
  await graph.setReadOnly(over, false);
  t.is(over.cow?.node.name, 'top');
});

async function image(graph: Graph): Promise<Child> {
  await graph.open({ driver: 'mem', 'node-name': 'old', size: 16384 });
  await graph.open({ driver: 'mem', 'node-name': 'new', size: 16384 });
  const node = await graph.open({
    driver: 'evicting',
    'node-name': 'top',
    size: 16384,
    seed: 3,
    'has-backing': true,
    file: { driver: 'mem', 'node-name': 'store' },
    backing: { driver: 'raw', 'node-name': 'base', file: 'old' },
  });
  return graph.attachRoot(node, { name: 'user', used: consistentRead });
}

test('reopen: read-only and back, inline children follow, those given by name do not', async (t) => {
  const graph = testGraph(t, DRIVERS);
  const root = await image(graph);
  const { node } = root;
  await graph.reopen([{ node, options: { ...node.options, 'read-only': true } }]);
  t.deepEqual(
    ['top', 'store', 'base', 'old'].map((name) => graph.node(name).readOnly),
    [true, true, true, false],
  );
  t.throws(() => graph.setRootPermissions(root, { used: write, shared: ALL_PERMISSIONS }), { code: 'EROFS' });
  await graph.reopen([{ node, options: { ...node.options, 'read-only': false } }]);
  t.deepEqual(
    ['top', 'store', 'base', 'old'].map((name) => graph.node(name).readOnly),
    [false, false, true, false],
  );
  graph.setRootPermissions(root, { used: consistentRead | write, shared: ALL_PERMISSIONS });
  await root.write(Buffer.alloc(5000, 9), 100);
  await t.throwsAsync(graph.reopen([{ node, options: { ...node.options, 'read-only': true } }]), {
    code: 'EROFS',
    message: /node "top": it is read-only, export "user" wants to write/,
  });
  t.false(graph.node('store').readOnly);
  await root.write(Buffer.alloc(5000, 8), 100);
  t.deepEqual(violations(graph), []);
});

test('reopen: another backing node, none, another file', async (t) => {
  const graph = testGraph(t, DRIVERS);
  const { node } = await image(graph);
  const { backing: _backing, ...rest } = node.options;
  await graph.reopen([{ node, options: { ...rest, backing: 'new' } }]);
  t.is(node.cow?.node.name, 'new');
  t.false(graph.nodes.has('base'));
  t.true(graph.nodes.has('old'));
  await graph.reopen([{ node, options: { ...rest, backing: null } }]);
  t.is(node.cow, undefined);
  await graph.reopen([{ node, options: { ...rest, backing: 'old' } }]);
  t.is(node.cow?.node.name, 'old');
  const raw = await graph.open({ driver: 'raw', 'node-name': 'r', file: 'old' });
  await graph.reopen([{ node: raw, options: { driver: 'raw', file: 'new' } }]);
  t.is(raw.children.get('file')?.node.name, 'new');
  t.deepEqual(violations(graph), []);
});

const reopenRefused = test.macro({
  async exec(t: ExecutionContext, given: Record<string, unknown>, message: RegExp) {
    const graph = testGraph(t, DRIVERS);
    const { node } = await image(graph);
    await graph.open({ driver: 'log', 'node-name': 'above', file: 'top' });
    const before = shape(graph);
    const options = { ...node.options, ...given };
    await t.throwsAsync(
      graph.reopen([
        { node: graph.node('old'), options: { driver: 'mem', size: 16384, 'read-only': true } },
        { node, options },
      ]),
      {
        instanceOf: BlockError,
        message,
      },
    );
    t.is(shape(graph), before);
  },
  title: (name = '') => `reopen refused, no node of the transaction changed: ${name}`,
});
test('unknown option', reopenRefused, { nonsense: 1 }, /driver "evicting" has no option "nonsense"/);
test('option that is fixed', reopenRefused, { cluster: 8192 }, /driver "evicting" can't change "cluster"/);
test('another driver', reopenRefused, { driver: 'raw' }, /its driver is "evicting"/);
test('another name', reopenRefused, { 'node-name': 'x' }, /its name can't change to "x"/);
test('no such node', reopenRefused, { backing: 'nobody' }, /Cannot find node "nobody"/);
test(
  'cycle',
  reopenRefused,
  { backing: 'above' },
  /Cannot put node "above" below node "top": it would be a cycle/,
);
test(
  'no file',
  reopenRefused,
  { file: null },
  /child "file" of node "top": it can be another node, but not come or go/,
);

test('setReadOnly: a backing image becomes writable and back, with all that it had', async (t) => {
  const graph = testGraph(t, DRIVERS);
  const { node } = await image(graph);
  const base = graph.node('base');
  await graph.setReadOnly(base, false);
  t.false(base.readOnly);
  t.is(base.common.discard, 'unmap');
  const root = graph.attachRoot(base, { name: 'commit', used: consistentRead | write });
  await t.throwsAsync(graph.setReadOnly(base, true), { code: 'EROFS' });
  await root.write(Buffer.alloc(100, 3), 0);
  await graph.detach(root);
  await graph.setReadOnly(base, true);
  t.true(base.readOnly);
  t.is(node.cow?.node, base);
  await graph.setReadOnly(node, true);
  await graph.setReadOnly(node, false);
  t.deepEqual(violations(graph), []);
});

/** A protocol whose handle must not be in use when a reopen closes it, below a format that writes on its own account. */
function backgroundWriters() {
  const state = { underWay: 0, met: 0, kick: (): void => undefined };
  const protocol = defineDriver({
    name: 'handle',
    kind: 'protocol',
    summary: 'A handle',
    options: {},
    children: {},
    open: () =>
      Promise.resolve({
        family: 'request',
        size: 8192,
        limits: NO_LIMITS,
        read: () => Promise.resolve(),
        async write() {
          state.underWay += 1;
          await sleep(20);
          state.underWay -= 1;
        },
        flush: () => Promise.resolve(),
        close: () => Promise.resolve(),
        async reopen() {
          state.kick();
          await sleep(1);
          const commit = (): void => {
            state.met += state.underWay;
          };
          return { commit, abort: () => undefined };
        },
      }),
  });
  const format = defineDriver({
    name: 'writes',
    kind: 'filter',
    summary: 'Writes when nobody asks for it',
    options: {},
    children: {
      file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'Its file' },
    },
    open(context) {
      const file = context.child('file');
      state.kick = (): void => {
        void (async () => {
          for (let count = 0; count < 3; count += 1) await file.write(Buffer.alloc(512), 0);
        })();
      };
      return Promise.resolve({
        family: 'request',
        size: 8192,
        limits: NO_LIMITS,
        read: () => Promise.resolve(),
        flush: () => Promise.resolve(),
        close: () => Promise.resolve(),
      });
    },
  });
  return { state, drivers: [protocol, format] };
}

test('reopen: what a node writes by itself meanwhile is not under way when the old handle is closed', async (t) => {
  const { state, drivers } = backgroundWriters();
  const graph = testGraph(t, [...DRIVERS, ...drivers]);
  const file = await graph.open({ driver: 'handle', 'node-name': 'f0' });
  await graph.open({ driver: 'writes', 'node-name': 'n0', file: 'f0' });
  await graph.reopen([{ node: file, options: { driver: 'handle', discard: 'unmap' } }]);
  t.is(state.met, 0);
  while (state.underWay > 0) await sleep(5);
});

test('reopen: two nodes in one transaction exchange their files', async (t) => {
  const graph = testGraph(t, DRIVERS);
  await graph.open({ driver: 'mem', 'node-name': 'a', size: 4096 });
  await graph.open({ driver: 'mem', 'node-name': 'b', size: 8192 });
  const one = await graph.open({ driver: 'raw', file: 'a' });
  const two = await graph.open({ driver: 'raw', file: 'b' });
  graph.attachRoot(one, { name: 'x', used: write, shared: write });
  graph.attachRoot(two, { name: 'y', used: write, shared: write });
  await graph.reopen([
    { node: one, options: { driver: 'raw', file: 'b' } },
    { node: two, options: { driver: 'raw', file: 'a' } },
  ]);
  t.deepEqual([one.size, two.size], [8192, 4096]);
  t.deepEqual(violations(graph), []);
});

test('replace: cycles and closed nodes are refused, a filter takes its own place not', async (t) => {
  const graph = testGraph(t, DRIVERS);
  const disk = await graph.open({ driver: 'mem', 'node-name': 'disk', size: 4096 });
  const top = await graph.open({ driver: 'raw', 'node-name': 'top', file: 'disk' });
  const root = graph.attachRoot(top, { name: 'x', used: write });
  const other = await graph.open({ driver: 'raw', 'node-name': 'other', file: 'top' });
  await graph.replace(top, other);
  t.is(root.node, other);
  t.is(other.children.get('file')?.node, top);
  await t.throwsAsync(graph.setBacking(disk, top), { message: /driver "mem" has no such child/ });
  await graph.replace(other, top);
  await graph.remove('other');
  await t.throwsAsync(graph.replace(top, other), { code: 'ENOENT', message: /node "other": it is closed/ });
  t.throws(() => graph.attachRoot(other, { name: 'y' }), { code: 'ENOENT' });
  await t.throwsAsync(graph.remove('disk'), {
    code: 'EBUSY',
    message: 'Cannot remove node "disk": node "top" uses it',
  });
  await t.throwsAsync(graph.remove('top'), {
    code: 'EBUSY',
    message: 'Cannot remove node "top": export "x" uses it',
  });
  t.deepEqual(violations(graph), []);
});

test('objects: made, refused, in use, removed', async (t) => {
  const { throttleDriver } = await import('../../drivers/filter/throttle.ts');
  const graph = testGraph(t, [...DRIVERS, throttleDriver]);
  graph.addObject('throttle-group', 'g', { 'limits.bps-total': '1M', 'x-iops-read': 5 });
  t.is(graph.objects.get('g')?.properties()['x-bps-total'], 1048576);
  const refused: [string, string, Record<string, unknown>, RegExp][] = [
    ['throttle-group', 'g', {}, /there is one with that id already/],
    ['nonsense', 'x', {}, /unknown type "nonsense", known are throttle-group/],
    ['throttle-group', 'x', { 'x-bps': 1 }, /there is no option "x-bps"/],
    ['throttle-group', 'x', { 'x-bps-total': 1, 'x-bps-read': 1 }, /bps-total can't be used together with/],
    [
      'throttle-group',
      'x',
      { 'x-bps-total': 100, 'x-bps-total-max': 10 },
      /bps-total-max is 10, must be at least/,
    ],
    ['throttle-group', 'x', { 'x-bps-total-max': 10 }, /it needs bps-total/],
    ['throttle-group', 'x', { 'x-bps-total': 1, 'x-bps-total-max-length': 10 }, /it needs bps-total-max/],
    ['throttle-group', 'x', { 'x-iops-size': 10 }, /it needs a limit of operations/],
  ];
  for (const [type, id, options, message] of refused)
    t.throws(() => graph.addObject(type, id, options), { instanceOf: BlockError, message });
  const filter = { driver: 'throttle', 'node-name': 'slow', file: { driver: 'mem' } };
  await t.throwsAsync(graph.open({ ...filter, 'throttle-group': 'nobody' }), {
    message: /no throttle-group "nobody"/,
  });
  await graph.open({ ...filter, 'throttle-group': 'g' });
  t.throws(() => graph.removeObject('g'), { code: 'EBUSY', message: /node "slow" uses it/ });
  await graph.remove('slow');
  graph.removeObject('g');
  t.throws(() => graph.removeObject('g'), { code: 'ENOENT' });
});
