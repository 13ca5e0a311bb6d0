/** Filters for tests and for redundancy: blkdebug, blkverify, quorum. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { parseConfig } from '../../drivers/filter/blkdebug/config.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { parseFilename } from '../../src/block/filename.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { openRoot, testGraph } from '../helpers/graph.ts';

const { consistentRead, write, writeUnchanged } = Permission;
const OTHERS = DRIVERS.filter(({ name }) => name !== 'mem');
const SIZE = 300_001;
const MEM = { driver: 'mem', size: SIZE };

const graphOf = (t: ExecutionContext): Graph => testGraph(t, OTHERS);

const fill = async (door: Child, value: number): Promise<void> =>
  door.write(Buffer.alloc(door.size, value), 0);

async function piece(door: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length, 0xdb);
  await door.read(bytes, offset);
  return bytes;
}

const CONFIG = `
# fails the second flush
[set-state]
event = "flush_to_disk"
state = "1"
new_state = "2"

[inject-error]
event = "flush_to_disk"
state = "2"
errno = "28"
once = "on"

[inject-error]
event = "write_aio"
sector = "4"
iotype = "write"
immediately = "on"
`;

test('blkdebug: rules of a file and of options', async (t) => {
  const graph = new Graph({ drivers: DRIVERS, readText: () => Promise.resolve(CONFIG) });
  t.teardown(() => graph.close());
  const root = await openRoot(graph, {
    driver: 'blkdebug',
    config: 'rules.conf',
    image: MEM,
    'inject-error.0.event': 'read_aio',
    'inject-error.0.errno': 5,
    'inject-error.0.once': 'on',
  });
  await t.throwsAsync(piece(root, 0, 10), { instanceOf: BlockError, code: 'EIO' });
  await piece(root, 0, 10);
  await root.flush();
  await t.throwsAsync(root.flush(), { code: 'ENOSPC' });
  await root.flush();
  await root.write(Buffer.alloc(512), 1536);
  await t.throwsAsync(root.write(Buffer.alloc(512), 1537), { code: 'EIO' });
  await t.throwsAsync(root.write(Buffer.alloc(1), 2559), { code: 'EIO' });
  await root.write(Buffer.alloc(1), 2560);
  await root.writeZeroes(0, 4096);
});

const badRules: readonly [string, RegExp][] = [
  ['event = "read_aio"', /line 1: "event" stands before the first section/],
  ['[nonsense]', /line 1: unknown section "nonsense"/],
  ['[inject-error]\nevent = "nonsense"', /line 1: event: must be one of/],
  ['[inject-error]\nevent read_aio', /line 2: is "event read_aio", must be/],
  ['[inject-error]\nevent = "none"\nx = "1"', /line 1: x:/],
  ['\n\n[set-state]\nevent = "none"', /line 3: new_state/],
];
for (const [text, message] of badRules) {
  test(`blkdebug: a file that makes no sense: ${JSON.stringify(text)}`, (t) => {
    t.throws(() => parseConfig(text, 'rules.conf'), { instanceOf: BlockError, message });
  });
}

test('blkdebug: permissions taken and not shared', async (t) => {
  const graph = graphOf(t);
  const disk = await graph.open({ ...MEM, 'node-name': 'disk' });
  await graph.open({
    driver: 'blkdebug',
    'node-name': 'debug',
    image: 'disk',
    'take-child-perms': ['write'],
    'unshare-child-perms': ['write', 'resize'],
  });
  t.deepEqual(
    [...disk.parents].map(({ used, shared }) => [used, shared]),
    [[write, consistentRead | writeUnchanged]],
  );
  t.throws(() => graph.attachRoot(disk, { name: 'w', used: write }), {
    code: 'EPERM',
    message: /node "debug" \(as its "image"\)/,
  });
  await graph.remove('debug');
  graph.attachRoot(disk, { name: 'w', used: write, shared: ALL_PERMISSIONS & ~write });
  await t.throwsAsync(graph.open({ driver: 'blkdebug', image: 'disk', 'take-child-perms.0': 'write' }), {
    code: 'EPERM',
  });
  t.is(disk.parents.size, 1);
});

test('blkdebug: limits', async (t) => {
  const graph = graphOf(t);
  const refused: [Record<string, unknown>, RegExp][] = [
    [{ align: 3 }, /align is 3, must be a power of two/],
    [{ align: 512, 'max-transfer': 700 }, /max-transfer is 700, must be a multiple of 512/],
    [{ 'opt-discard': 4096, 'max-discard': 6000 }, /max-discard is 6000, must be a multiple of 4096/],
    [{ 'inject-error': [{ event: 'x' }] }, /option "inject-error"/],
    [{ config: 'rules' }, /no files of settings here/],
  ];
  for (const [options, message] of refused)
    await t.throwsAsync(graph.open({ driver: 'blkdebug', image: MEM, ...options }), {
      instanceOf: BlockError,
      message,
    });
});

test('blkverify: a difference is an error that says where', async (t) => {
  const graph = graphOf(t);
  const suspect = await openRoot(graph, { ...MEM, 'node-name': 'suspect' }, consistentRead | write);
  const root = await openRoot(
    graph,
    {
      driver: 'blkverify',
      'node-name': 'v',
      raw: { ...MEM, 'node-name': 'right' },
      test: 'suspect',
    },
    consistentRead | write,
  );
  await fill(root, 5);
  await piece(root, 0, SIZE);
  await suspect.write(Buffer.from([6]), 1234);
  await piece(root, 0, 1234);
  await t.throwsAsync(piece(root, 1000, 1000), {
    code: 'EIO',
    message: 'Cannot read "v": "suspect" and "right" differ at byte 1234',
  });
});

interface Vote {
  readonly root: Child;
  readonly copies: Child[];
  readonly events: [string, Readonly<Record<string, unknown>>][];
}

async function quorum(t: ExecutionContext, options: Record<string, unknown>): Promise<Vote> {
  const events: Vote['events'] = [];
  const graph = new Graph({ drivers: DRIVERS, event: (name, data) => events.push([name, data]) });
  t.teardown(() => graph.close());
  const copies: Child[] = [];
  for (const name of ['a', 'b', 'c']) {
    const copy = await graph.open({
      driver: 'error',
      iotype: 'read',
      from: 100_000,
      length: name === 'a' ? 10 : 0,
      'node-name': name,
      file: { ...MEM, 'node-name': `${name}0` },
    });
    copies.push(graph.attachRoot(copy.filteredChild().node, { name: `spoiler of ${name}`, used: 0 }));
  }
  const root = await openRoot(graph, {
    driver: 'quorum',
    'node-name': 'q',
    children: ['a', 'b', 'c'],
    ...options,
  });
  await fill(root, 5);
  return { root, copies, events };
}

/** Puts a byte on one copy behind the quorum's back, as a bad disk would. */
async function spoil(copy: Child | undefined, offset: number, value: number): Promise<void> {
  await copy?.node.write(Buffer.from([value]), offset, 0);
}

test('quorum: the majority is right, the others are told of', async (t) => {
  const { root, copies, events } = await quorum(t, { 'vote-threshold': 2 });
  await spoil(copies[1], 5000, 9);
  t.is((await piece(root, 4096, 1024))[904], 5);
  t.deepEqual(events, [
    ['QUORUM_REPORT_BAD', { type: 'read', 'node-name': 'b', 'sector-num': 8, 'sectors-count': 2 }],
  ]);
  events.length = 0;
  t.is((await piece(root, 100_000, 5))[0], 5);
  t.is(events[0]?.[1]['node-name'], 'a');
  events.length = 0;
  await spoil(copies[2], 5000, 8);
  await t.throwsAsync(piece(root, 4096, 1024), { code: 'EIO', message: /only 1 disks agree, 2 must/ });
  t.deepEqual(events.at(-1), ['QUORUM_FAILURE', { reference: 'q', 'sector-num': 8, 'sectors-count': 2 }]);
  t.is((await piece(copies[1] ?? root, 5000, 1))[0], 9, 'nothing is corrected');
});

test('quorum: rewrite-corrupted', async (t) => {
  const { root, copies } = await quorum(t, { 'vote-threshold': 2, 'rewrite-corrupted': true });
  await spoil(copies[0], 5000, 9);
  await piece(root, 5000, 1);
  t.is((await piece(copies[0] ?? root, 5000, 1))[0], 5);
});

test('quorum: fifo takes the next when one fails', async (t) => {
  const { root, events } = await quorum(t, { 'vote-threshold': 1, 'read-pattern': 'fifo' });
  t.is((await piece(root, 100_000, 5))[0], 5);
  t.deepEqual(
    events.map(([name, data]) => [name, data['node-name']]),
    [['QUORUM_REPORT_BAD', 'a']],
  );
});

test('quorum: children come and go', async (t) => {
  const graph = graphOf(t);
  const node = await graph.open({
    driver: 'quorum',
    'node-name': 'q',
    'vote-threshold': 2,
    children: [MEM, MEM],
  });
  const root = graph.attachRoot(node, { name: 'user', used: consistentRead | write });
  await fill(root, 5);
  const third = await graph.open({ ...MEM, 'node-name': 'third' });
  await graph.open({ driver: 'mem', size: 512, 'node-name': 'small' });
  t.is(await graph.addChild(node, third), 'children.2');
  await t.throwsAsync(graph.addChild(node, graph.node('small')), { message: /"small" has 512 bytes/ });
  await t.throwsAsync(graph.addChild(node, node), { message: /it would be a cycle/ });
  await t.throwsAsync(graph.addChild(third, node), { message: /driver "mem" has no list of them/ });
  t.is((await piece(root, 0, 1))[0], 5);
  await fill(root, 6);
  await graph.removeChild(node, 'children.0');
  await t.throwsAsync(graph.removeChild(node, 'children.1'), { message: /1 would be left, 2 must agree/ });
  await t.throwsAsync(graph.removeChild(node, 'children.7'), { code: 'ENOENT' });
  t.is((await piece(root, 0, 1))[0], 6);
  t.deepEqual([...node.children.keys()].sort(), ['children.1', 'children.2']);
  await graph.detach(root);
});

const quorumRefused: readonly [Record<string, unknown>, RegExp][] = [
  [{ 'vote-threshold': 3 }, /vote-threshold is 3, must be at most 2/],
  [{ 'vote-threshold': 1, blkverify: true }, /needs two children and vote-threshold=2/],
  [
    { 'vote-threshold': 2, 'rewrite-corrupted': true, 'read-pattern': 'fifo' },
    /can't be used with read-pattern=fifo/,
  ],
  [
    { 'vote-threshold': 1, children: [MEM, { driver: 'mem', size: 512, 'node-name': 'small' }] },
    /"small" has 512 bytes/,
  ],
];
for (const [options, message] of quorumRefused) {
  test(`quorum refused: ${String(message)}`, async (t) => {
    await t.throwsAsync(graphOf(t).open({ driver: 'quorum', children: [MEM, MEM], ...options }), { message });
  });
}

test('legacy file names', (t) => {
  const rules = { drivers: graphOf(t).drivers };
  t.deepEqual(parseFilename('blkdebug:/tmp/rules:/tmp/disk', rules), {
    driver: 'blkdebug',
    config: '/tmp/rules',
    image: { driver: 'file', filename: '/tmp/disk' },
  });
  t.deepEqual(parseFilename('blkdebug::json:{"driver": "mem"}', rules), {
    driver: 'blkdebug',
    image: { driver: 'mem' },
  });
  t.deepEqual(parseFilename('blkverify:/a:blkdebug::/b', rules), {
    driver: 'blkverify',
    raw: { driver: 'file', filename: '/a' },
    test: { filename: 'blkdebug::/b' },
  });
  t.throws(() => parseFilename('blkdebug:x', rules), { message: /must be blkdebug:rules:image/ });
});
