/** Permissions: every combination on one node, defaults by role, and how they go down a graph. */
import test from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { errorDriver } from '../../drivers/filter/error.ts';
import type { Child } from '../../src/block/child.ts';
import { defineDriver } from '../../src/block/driver.ts';
import type { PermissionChange, RequestDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { limits } from '../../src/block/limits.ts';
import type { Node } from '../../src/block/node.ts';
import { defaultPermissions } from '../../src/block/permission-defaults.ts';
import { ALL_PERMISSIONS, Permission, permissionNames, Role } from '../../src/block/permissions.ts';
import type { PermissionPair } from '../../src/block/permissions.ts';
import { refuseRoles } from '../../src/block/roles.ts';
import { cumulative } from '../../src/block/transaction.ts';
import { testGraph } from '../helpers/graph.ts';

const { consistentRead: R, write: W, writeUnchanged: U, resize: Z } = Permission;
const SETS = Array.from({ length: 16 }, (_, set) => set);

const pair = (used: number, shared: number): PermissionPair => ({ used, shared });
const pairOf = ({ used, shared }: PermissionPair): PermissionPair => ({ used, shared });

test('two edges: all 65,536 combinations of used and shared, result and message', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'mem', 'node-name': 'disk', size: 65536 });
  const first = graph.attachRoot(node, { name: 'a' });
  const second = graph.attachRoot(node, { name: 'b' });
  const names = (set: number): string => permissionNames(set).join(', ');
  const wanted = (a: PermissionPair, b: PermissionPair): string | undefined => {
    const told = (user: string, holder: string, refused: number, used: number): string =>
      `Cannot use node "disk" with "${names(refused)}": export "${user}" wants it, export "${holder}" ` +
      `${used === 0 ? 'uses nothing' : `uses "${names(used)}"`} and does not share it`;
    if ((a.used & ~b.shared) !== 0) return told('a', 'b', a.used & ~b.shared, b.used);
    return (b.used & ~a.shared) === 0 ? undefined : told('b', 'a', b.used & ~a.shared, a.used);
  };
  const tryPair = (a: PermissionPair, b: PermissionPair): string | undefined => {
    graph.setRootPermissions(second, pair(0, ALL_PERMISSIONS));
    graph.setRootPermissions(first, a);
    try {
      graph.setRootPermissions(second, b);
    } catch (error) {
      if (pairOf(second).used !== 0 || pairOf(second).shared !== ALL_PERMISSIONS) return 'something changed';
      return error instanceof BlockError && error.code === 'EPERM' ? error.message : String(error);
    }
    return undefined;
  };
  const wrong: string[] = [];
  for (const used of SETS) {
    for (const shared of SETS) {
      for (const otherUsed of SETS) {
        for (const otherShared of SETS) {
          const a = pair(used, shared);
          const b = pair(otherUsed, otherShared);
          const message = tryPair(a, b);
          if (message !== wanted(a, b)) wrong.push(`${JSON.stringify([a, b])}: ${message}`);
        }
      }
    }
  }
  t.deepEqual(wrong, []);
});

test('many edges: what one uses must be inside what every other shares', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'mem', 'node-name': 'disk', size: 65536 });
  graph.attachRoot(node, { name: 'reader', used: R, shared: R | U });
  graph.attachRoot(node, { name: 'other', used: R, shared: ALL_PERMISSIONS });
  t.throws(() => graph.attachRoot(node, { name: 'writer', used: R | W }), {
    message:
      'Cannot use node "disk" with "write": export "writer" wants it, export "reader" uses "consistent-read" and does not share it',
  });
  t.is(node.parents.size, 2);
  graph.attachRoot(node, { name: 'filler', used: U, shared: R });
  t.deepEqual(cumulative(node), pair(R | U, R));
});

const byRole = test.macro({
  exec(t, roles: number, readOnly: boolean, rule: (parent: PermissionPair) => PermissionPair) {
    for (const used of SETS) {
      for (const shared of SETS) {
        t.deepEqual(defaultPermissions(roles, pair(used, shared), readOnly), rule(pair(used, shared)));
      }
    }
  },
  title: (name = '') => `defaults: ${name}`,
});

test('filtered passes everything on', byRole, Role.filtered | Role.primary, false, (parent) => parent);
test('cow reads, and lets others write only if its parents do', byRole, Role.cow, false, ({ used, shared }) =>
  pair(used & R, R | U | ((shared & W) === 0 ? 0 : W | Z)),
);
const image = Role.data | Role.metadata | Role.primary;
test('metadata of an image that can be written is written', byRole, image, false, ({ used, shared }) =>
  pair(used | R | W | Z, shared & ~(W | Z)),
);
test('metadata of one that is read-only is read', byRole, image, true, ({ used, shared }) =>
  pair(used | R | ((used & W) === 0 ? 0 : Z), shared & ~(W | Z)),
);
test(
  'data is grown when it is written, and nobody else resizes it',
  byRole,
  Role.data,
  false,
  ({ used, shared }) => pair(used | ((used & W) === 0 ? 0 : Z), shared & ~Z),
);

const child = (name: string, roles: number): Child => ({ name, roles }) as Child;
const ROLE_CASES: readonly [string, readonly Child[], Child, RegExp | undefined][] = [
  ['one of each', [child('file', image)], child('backing', Role.cow), undefined],
  [
    'two primary',
    [child('file', image)],
    child('other', Role.data | Role.primary),
    /"file" is its "primary" child already/,
  ],
  ['two cow', [child('backing', Role.cow)], child('other', Role.cow), /"backing" is its "cow" child already/],
  [
    'two filtered',
    [child('file', Role.filtered)],
    child('x', Role.filtered),
    /"file" is its "filtered" child/,
  ],
  [
    'filtered beside cow',
    [child('backing', Role.cow)],
    child('file', Role.filtered),
    /"backing" is its "cow" child/,
  ],
  ['filtered data', [], child('file', Role.filtered | Role.data), /can't be "filtered" and "data" at once/],
  ['filtered metadata', [], child('file', Role.filtered | Role.metadata), /"filtered" and "metadata"/],
  ['filtered cow', [], child('file', Role.filtered | Role.cow), /"filtered" and "cow"/],
  ['the same child again', [child('file', image)], child('file', image), undefined],
  ['many data', [child('a', Role.data), child('b', Role.data)], child('c', Role.data), undefined],
];
for (const [name, existing, edge, message] of ROLE_CASES) {
  test(`roles: ${name}`, (t) => {
    const attempt = (): void => refuseRoles('node "n"', existing, edge);
    if (message === undefined) t.notThrows(attempt);
    else t.throws(attempt, { instanceOf: BlockError, message });
  });
}

/** A protocol driver that holds "locks": it notes what it was asked for and refuses what `forbidden` says. */
function lockingDriver() {
  const state = { forbidden: 0, pending: 0, held: pair(0, ALL_PERMISSIONS), events: [] as string[] };
  const impl: RequestDriver = {
    family: 'request',
    size: 65536,
    limits: limits({}),
    read: () => Promise.resolve(),
    write: () => Promise.resolve(),
    flush: () => Promise.resolve(),
    close: () => Promise.resolve(),
    setPermissions(wanted): PermissionChange {
      if ((wanted.used & state.forbidden) !== 0)
        throw new BlockError('EBUSY', 'Cannot lock "locking": another program has it');
      state.pending += 1;
      return {
        commit: () => {
          state.pending -= 1;
          state.held = wanted;
        },
        abort: () => {
          state.pending -= 1;
          state.events.push('abort');
        },
      };
    },
  };
  const driver = defineDriver({
    name: 'locking',
    kind: 'protocol',
    summary: 'Takes locks',
    options: {},
    children: {},
    open: () => Promise.resolve(impl),
  });
  return { driver, state };
}

async function twoLayers(graph: Graph): Promise<{ top: Node; base: Node }> {
  const base = await graph.open({
    driver: 'raw',
    'node-name': 'base',
    file: { driver: 'locking', 'node-name': 'store' },
  });
  const top = await graph.open({ driver: 'error', 'node-name': 'top', length: 0, file: 'base' });
  return { top, base };
}

test('permissions reach the driver at the bottom, all or none', async (t) => {
  const { driver, state } = lockingDriver();
  const graph = testGraph(t, [driver, rawDriver, errorDriver]);
  const { top, base } = await twoLayers(graph);
  t.deepEqual(state.held, pair(0, ALL_PERMISSIONS));
  const root = graph.attachRoot(top, { name: 'a', used: R | W, shared: R });
  t.deepEqual(state.held, pair(R | W, R));
  t.throws(() => graph.attachRoot(base, { name: 'b', used: R, shared: R }), {
    message: /export "b".* does not share it/,
  });
  state.forbidden = Z;
  t.throws(() => graph.setRootPermissions(root, pair(R | W | Z, R)), { code: 'EBUSY' });
  t.deepEqual(pairOf(root), pair(R | W, R));
  t.deepEqual(state.held, pair(R | W, R));
  await graph.detach(root);
  t.deepEqual(state.held, pair(0, ALL_PERMISSIONS));
  t.is(state.pending, 0);
});

test('a refusal undoes what other drivers had agreed to', async (t) => {
  const one = lockingDriver();
  const graph = testGraph(t, [one.driver, rawDriver, errorDriver]);
  const { top } = await twoLayers(graph);
  const other = await graph.open({ driver: 'mem', size: 65536, 'read-only': true });
  graph.attachRoot(top, { name: 'a', used: R | W });
  await t.throwsAsync(graph.replace(top, other), {
    code: 'EROFS',
    message: /read-only, export "a" wants to write/,
  });
  t.is(one.state.pending, 0);
  t.deepEqual(one.state.held, pair(R | W, ALL_PERMISSIONS));
  t.is([...top.parents].length, 1);
});

test('force-share keeps nobody out, and goes with read-only alone', async (t) => {
  const graph = testGraph(t, [rawDriver]);
  await t.throwsAsync(graph.open({ driver: 'mem', 'force-share': true }), {
    message: /force-share needs read-only=on/,
  });
  await graph.open({
    driver: 'mem',
    'node-name': 'disk',
    size: 4096,
    'read-only': true,
    'force-share': true,
  });
  const image = await graph.open({
    driver: 'evicting',
    size: 8192,
    'has-backing': true,
    file: { driver: 'mem' },
    backing: 'disk',
  });
  t.is(image.cow?.shared, ALL_PERMISSIONS);
});

test('a read-only node refuses writers, naming them', async (t) => {
  const graph = testGraph(t, [rawDriver]);
  const node = await graph.open({ driver: 'mem', 'node-name': 'disk', size: 4096, 'read-only': true });
  for (const used of [W, U, Z]) {
    t.throws(() => graph.attachRoot(node, { name: 'w', used }), {
      code: 'EROFS',
      message: 'Cannot write to node "disk": it is read-only, export "w" wants to write',
    });
  }
  await t.throwsAsync(graph.open({ driver: 'evicting', 'node-name': 'top', size: 4096, file: 'disk' }), {
    message: 'Cannot write to node "disk": it is read-only, node "top" (as its "file") wants to write',
  });
  t.is(node.parents.size, 0);
});
