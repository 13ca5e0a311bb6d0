/** The same requests to blockfuse and to qemu-storage-daemon: the answers are the same but where it is said here. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import type { Answer, QmpClient } from '../helpers/serve.ts';
import { storageDaemon } from '../helpers/storage-daemon.ts';
import { canRun } from '../helpers/tools.ts';

async function prepare(folder: string): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'disk.qcow2'), '16M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'over.qcow2'), '16M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'inner.qcow2'), '16M']);
  await prepareBitmaps(folder);
  await writeFile(join(folder, 'mnt.raw'), '');
  await mkdir(join(folder, 'folder'));
}

/** `kept` has a bitmap that is usable and one that was in use when its server died; `old` can have none. */
async function prepareBitmaps(folder: string): Promise<void> {
  const [kept, old] = [join(folder, 'kept.qcow2'), join(folder, 'old.qcow2')];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', old, '16M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', kept, '16M']);
  for (const name of ['broken', 'good']) await run('qemu-img', ['bitmap', '--add', kept, name]);
  const bytes = await readFile(kept);
  const directory = Number(bytes.readBigUInt64BE(bytes.indexOf(Buffer.from('2385287500000018', 'hex')) + 24));
  bytes.writeUInt32BE(3, directory + 12);
  await writeFile(kept, bytes);
}

type Request = readonly [execute: string, given?: Readonly<Record<string, unknown>>];

function requests(folder: string): readonly Request[] {
  return [
    ...nodesAndExports(folder),
    ...sizesAndBitmaps(),
    ...persistentBitmaps(folder),
    ...objects(),
    ...otherTypes(folder),
    ...internal(folder),
    ...overlays(folder),
  ];
}

function nodesAndExports(folder: string): readonly Request[] {
  const file = { driver: 'file', filename: join(folder, 'disk.qcow2'), 'node-name': 'f0' };
  const e0 = {
    type: 'fuse',
    id: 'e0',
    'node-name': 'n0',
    mountpoint: join(folder, 'mnt.raw'),
    writable: true,
  };
  return [
    ['blockdev-add', { driver: 'qcow2', 'node-name': 'n0', file }],
    ['blockdev-add', { driver: 'qcow2', 'node-name': 'n0', file: 'f0' }],
    ['blockdev-add', { driver: 'nix', 'node-name': 'n1' }],
    ['blockdev-add', { 'node-name': 'n1' }],
    ['blockdev-add', { driver: 'raw', file: 'f0' }],
    ['blockdev-del', { 'node-name': 'f0' }],
    ['blockdev-del', { 'node-name': 'nope' }],
    ['blockdev-del', {}],
    ['block-export-add', e0],
    ['block-export-add', e0],
    ['block-export-add', { ...e0, id: 'e 1' }],
    ['block-export-add', { ...e0, id: 'e1', 'node-name': 'nope' }],
    ['block-export-add', { ...e0, id: 'e1', type: 'nix' }],
    ['block-export-add', { ...e0, id: 'e1', iothread: 'nope' }],
    ['block-export-add', { ...e0, id: 'e1', writable: 'on' }],
    ['query-block-exports'],
  ];
}

/** JSON has types: text is no number and no flag. */
function otherTypes(folder: string): readonly Request[] {
  const file = { driver: 'file', filename: join(folder, 'mnt.raw') };
  const node = (more: object, driver = 'raw'): Request => [
    'blockdev-add',
    { driver, 'node-name': 't0', file, ...more },
  ];
  const create = (more: object): Request => {
    const options = { driver: 'qcow2', file: 'nope', size: 4096, ...more };
    return ['blockdev-create', { 'job-id': 't0', options }];
  };
  const group = { 'qom-type': 'throttle-group', id: 't0' };
  return [
    node({ 'read-only': 'on' }),
    node({ cache: { direct: 'off' } }),
    node({ size: '64k' }),
    node({ discard: true }),
    node({ file: { ...file, filename: 5 } }),
    node({ file: { ...file, 'read-only': 'off' } }),
    node({ file: { ...file, cache: { direct: 1 } } }),
    node({ 'lazy-refcounts': 'on' }, 'qcow2'),
    node({ 'l2-cache-size': '1M' }, 'qcow2'),
    ['blockdev-reopen', { options: [{ ...file, 'node-name': 't0', 'read-only': 'on' }] }],
    create({ 'lazy-refcounts': 'on' }),
    create({ 'refcount-bits': '16' }),
    create({ version: 3 }),
    create({ preallocation: true }),
    ['object-add', { ...group, limits: { 'iops-total': '5' } }],
    ['object-add', { ...group, 'x-iops-total': '5' }],
  ];
}

function sizesAndBitmaps(): readonly Request[] {
  const bitmap = { node: 'n0', name: 'b0' };
  return [
    ['block_resize', { 'node-name': 'n0', size: 32 << 20 }],
    ['block_resize', { 'node-name': 'n0', size: 'a' }],
    ['block_resize', { 'node-name': 'n0', size: 1000 }],
    ['block_resize', { 'node-name': 'n0', size: 32 << 20, more: 1 }],
    ['block_resize', { 'node-name': 'nope', size: 512 }],
    ['block-dirty-bitmap-add', bitmap],
    ['block-dirty-bitmap-add', bitmap],
    ['block-dirty-bitmap-add', { node: 'n0', name: 'b1', granularity: 1000 }],
    ['block-dirty-bitmap-add', { node: 'n0', name: '' }],
    ['block-dirty-bitmap-add', { node: 'f0', name: 'b1', persistent: true }],
    ['block-dirty-bitmap-disable', bitmap],
    ['block-dirty-bitmap-enable', bitmap],
    ['block-dirty-bitmap-clear', bitmap],
    ['block-dirty-bitmap-clear', { node: 'n0', name: 'nope' }],
    ['block-dirty-bitmap-merge', { node: 'n0', target: 'b0', bitmaps: ['nope'] }],
    ['transaction', { actions: [{ type: 'nix', data: {} }] }],
    ['transaction', { actions: [{ type: 'blockdev-snapshot', data: { node: 'n0' } }] }],
    ['transaction', { actions: [{ type: 'abort', data: {} }] }],
    ['transaction', { actions: [{ type: 'abort' }] }],
    ['transaction', { actions: [], properties: { 'completion-mode': 'grouped' } }],
    ['query-named-block-nodes', { flat: 'yes' }],
    [
      'transaction',
      {
        actions: [
          { type: 'block-dirty-bitmap-add', data: { node: 'n0', name: 'b9' } },
          { type: 'block-dirty-bitmap-add', data: bitmap },
        ],
      },
    ],
    ['block-dirty-bitmap-remove', { node: 'n0', name: 'b9' }],
    ['block-set-write-threshold', { 'node-name': 'f0', 'write-threshold': 4096 }],
    ['block-set-write-threshold', { 'node-name': 'nope', 'write-threshold': 4096 }],
  ];
}

function persistentBitmaps(folder: string): readonly Request[] {
  const node = (name: string, image: string, more = {}): Request => {
    const file = { driver: 'file', filename: join(folder, image) };
    return ['blockdev-add', { driver: 'qcow2', 'node-name': name, file, ...more }];
  };
  const bitmap = (name: string, more = {}) => ({ node: 'p0', name, ...more });
  const add = { type: 'block-dirty-bitmap-add', data: bitmap('undone', { persistent: true }) };
  const remove = { type: 'block-dirty-bitmap-remove', data: bitmap('good') };
  return [
    node('p0', 'kept.qcow2'),
    ['block-dirty-bitmap-add', bitmap('new', { persistent: true, disabled: true })],
    ['block-dirty-bitmap-add', bitmap('new', { persistent: true })],
    ['block-dirty-bitmap-add', bitmap('broken', { persistent: true })],
    ['block-dirty-bitmap-add', bitmap('small', { persistent: true, granularity: 256 })],
    ['block-dirty-bitmap-clear', bitmap('broken')],
    ['block-dirty-bitmap-enable', bitmap('broken')],
    ['block-dirty-bitmap-disable', bitmap('broken')],
    ['block-dirty-bitmap-merge', { node: 'p0', target: 'broken', bitmaps: ['good'] }],
    ['block-dirty-bitmap-merge', { node: 'p0', target: 'good', bitmaps: ['broken'] }],
    ['block-dirty-bitmap-merge', { node: 'p0', target: 'new', bitmaps: ['good'] }],
    ['transaction', { actions: [add, remove, { type: 'abort', data: {} }] }],
    ['block-dirty-bitmap-clear', bitmap('undone')],
    ['block-dirty-bitmap-clear', bitmap('good')],
    ['block-dirty-bitmap-remove', bitmap('broken')],
    ['block-dirty-bitmap-remove', bitmap('broken')],
    ['blockdev-del', { 'node-name': 'p0' }],
    node('p0', 'kept.qcow2', { 'read-only': true }),
    ['block-dirty-bitmap-clear', bitmap('good')],
    ['block-dirty-bitmap-remove', bitmap('good')],
    ['block-dirty-bitmap-add', bitmap('memory')],
    ['blockdev-del', { 'node-name': 'p0' }],
    node('p1', 'old.qcow2'),
    ['block-dirty-bitmap-add', { node: 'p1', name: 'b', persistent: true }],
    ['blockdev-del', { 'node-name': 'p1' }],
  ];
}

function objects(): readonly Request[] {
  return [
    ['object-add', { 'qom-type': 'throttle-group', id: 'tg' }],
    ['object-add', { 'qom-type': 'throttle-group', id: 'tg' }],
    ['object-add', { 'qom-type': 'nix', id: 'x' }],
    ['object-del', { id: 'nope' }],
    ['qom-get', { path: '/objects/tg', property: 'limits' }],
    ['qom-set', { path: '/objects/tg', property: 'limits', value: { 'iops-total': 100 } }],
    ['qom-set', { path: '/objects/tg', property: 'limits', value: { 'bps-total': 5000 } }],
    ['qom-get', { path: '/objects/tg', property: 'limits' }],
    ['qom-set', { path: '/objects/tg', property: 'limits' }],
    ['object-add', { 'qom-type': 'throttle-group', id: '1x' }],
    ['qom-list', { path: '/nope' }],
    ['qom-get', { path: '/objects/tg', property: 'x-iops-total' }],
    ['qom-get', { path: '/objects/nope', property: 'limits' }],
    ['qom-get', { path: '/objects/tg', property: 'nope' }],
    ['object-del', { id: 'tg' }],
  ];
}

function internal(folder: string): readonly Request[] {
  const file = { driver: 'file', filename: join(folder, 'inner.qcow2') };
  return [
    ['blockdev-add', { driver: 'qcow2', 'node-name': 'i0', file }],
    ['blockdev-snapshot-internal-sync', { device: 'i0', name: 's0' }],
    ['blockdev-snapshot-internal-sync', { device: 'i0', name: 's0' }],
    ['blockdev-snapshot-internal-sync', { device: 'i0', name: '' }],
    ['blockdev-snapshot-delete-internal-sync', { device: 'i0', name: 'nope' }],
    ['blockdev-snapshot-delete-internal-sync', { device: 'i0' }],
    ['blockdev-del', { 'node-name': 'i0' }],
  ];
}

function overlays(folder: string): readonly Request[] {
  return [
    ['blockdev-reopen', { options: {} }],
    ['blockdev-reopen', { options: [{ driver: 'qcow2', file: 'f0' }] }],
    ['blockdev-reopen', { options: [{ driver: 'qcow2', 'node-name': 'nope', file: 'f0' }] }],
    ['x-blockdev-change', { parent: 'n0', child: 'nope' }],
    ['x-blockdev-change', { parent: 'nope', child: 'file' }],
    ['x-blockdev-change', { parent: 'n0', node: 'nope' }],
    ['change-backing-file', { device: 'n0', 'image-node-name': 'n0', 'backing-file': 'x' }],
    ['change-backing-file', { device: 'nope', 'image-node-name': 'n0', 'backing-file': 'x' }],
    [
      'blockdev-add',
      {
        driver: 'qcow2',
        'node-name': 'o0',
        backing: null,
        file: { driver: 'file', filename: join(folder, 'over.qcow2') },
      },
    ],
    ['blockdev-snapshot', { node: 'n0', overlay: 'o0' }],
    ['blockdev-snapshot', { node: 'n0', overlay: 'o0' }],
    ['blockdev-snapshot', { node: 'nope', overlay: 'o0' }],
    ['query-block-exports'],
    [
      'blockdev-create',
      { 'job-id': 'j0', options: { driver: 'file', filename: join(folder, 'new.raw'), size: 4096 } },
    ],
    ['blockdev-create', { 'job-id': 'j 1', options: { driver: 'qcow2', file: 'n0', size: 4096 } }],
    ['blockdev-create', { 'job-id': 'j1', options: { driver: 'qcow2', size: 4096 } }],
    ['job-dismiss', { id: 'nope' }],
    ['qmp_capabilities'],
    ['nope'],
    ['block-export-del', { id: 'nope' }],
    ['block-export-del', { id: 'e0' }],
    ['block-export-del', { id: 'e0' }],
    ['query-block-exports'],
    ['blockdev-del', { 'node-name': 'o0' }],
    ['blockdev-del', { 'node-name': 'n0' }],
  ];
}

/** What blockfuse says in other words: more than QEMU does, or the words of the block layer. */
const OTHER_WORDS: Readonly<Record<string, RegExp>> = {
  "'node-name' must be specified for the root node": /'node-name' must be specified/,
  "Node 'n0' is busy: node is used as backing hd of 'o0'": /overlay already has a backing image/,
};

function comparable(answer: Answer, folder: string): unknown {
  const text = JSON.stringify(answer.error ?? answer.return).replaceAll(folder, '');
  return JSON.parse(text) as unknown;
}

test('answers are those of qemu-storage-daemon', async (t) => {
  if (!canRun(t, 'qemu-storage-daemon', 'qemu-img')) return;
  const theirs = await storageDaemon(t);
  const ours = await serve(t);
  await prepare(theirs.folder);
  await prepare(ours.folder);
  const list = requests(ours.folder);
  for (const [index, [execute, given]] of requests(theirs.folder).entries()) {
    const expected = await theirs.client.ask(execute, given);
    const found = await ours.client.ask(...(list[index] ?? ['']));
    const what = `${execute} ${JSON.stringify(given)}`;
    const words = OTHER_WORDS[expected.error?.desc ?? ''];
    if (words === undefined) {
      t.deepEqual(comparable(found, ours.folder), comparable(expected, theirs.folder), what);
      continue;
    }
    t.regex(found.error?.desc ?? '', words, what);
  }
  const names = (client: QmpClient): string[] =>
    client.events.map(({ event, data }) => `${event} ${JSON.stringify(data)}`);
  for (const { client } of [ours, theirs])
    while (!names(client).some((name) => name.includes('concluded'))) await sleep(10);
  t.deepEqual(names(ours.client).sort(), names(theirs.client).sort());
});

test('what is not a request is answered as by qemu-storage-daemon', async (t) => {
  if (!canRun(t, 'qemu-storage-daemon')) return;
  const theirs = await storageDaemon(t);
  const ours = await serve(t);
  const texts = [
    '{"execute": 12}',
    '{"foo": 1}',
    '{"execute": "query-version", "extra": 1, "id": {"a": [1]}}',
    '{"execute": "query-version", "arguments": []}',
    '{"exec-oob": "query-version"}',
    '{"execute": "query-version", "exec-oob": "query-version"}',
    '[1]',
    '{}',
  ];
  for (const text of texts) t.deepEqual(await ours.client.raw(text), await theirs.client.raw(text), text);
});

test('query-named-block-nodes and query-qmp-schema have the members that clients of QEMU read', async (t) => {
  if (!canRun(t, 'qemu-storage-daemon', 'qemu-img')) return;
  const theirs = await storageDaemon(t);
  const ours = await serve(t);
  for (const { client, folder } of [theirs, ours]) {
    await prepare(folder);
    const file = { driver: 'file', filename: join(folder, 'disk.qcow2') };
    await client.run('blockdev-add', { driver: 'qcow2', 'node-name': 'n0', file });
    await client.run('block-dirty-bitmap-add', { node: 'n0', name: 'b0' });
    const kept = { driver: 'file', filename: join(folder, 'kept.qcow2') };
    await client.run('blockdev-add', { driver: 'qcow2', 'node-name': 'p0', file: kept });
  }
  const node = async (client: QmpClient, name = 'n0'): Promise<Record<string, unknown>> => {
    const nodes = (await client.run('query-named-block-nodes', { flat: true })) as Record<string, unknown>[];
    return nodes.find((each) => each['node-name'] === name) ?? {};
  };
  const [expected, found] = [await node(theirs.client), await node(ours.client)];
  t.deepEqual(Object.keys(found).sort(), Object.keys(expected).sort());
  t.deepEqual(found['dirty-bitmaps'], expected['dirty-bitmaps']);
  t.deepEqual(found['cache'], expected['cache']);
  const kept = [await node(ours.client, 'p0'), await node(theirs.client, 'p0')];
  const byName = (a: { name: string }, b: { name: string }): number => a.name.localeCompare(b.name);
  const [ourBitmaps, theirBitmaps] = kept.map((each) =>
    (each['dirty-bitmaps'] as { name: string }[]).sort(byName),
  );
  t.deepEqual(ourBitmaps, theirBitmaps);
  const stats = (await ours.client.run('query-blockstats', { 'query-nodes': true })) as { stats: object }[];
  const theirStats = (await theirs.client.run('query-blockstats', { 'query-nodes': true })) as {
    stats: object;
  }[];
  t.deepEqual(Object.keys(stats[0]?.stats ?? {}).sort(), Object.keys(theirStats[0]?.stats ?? {}).sort());
  const schema = (await ours.client.run('query-qmp-schema')) as Record<string, unknown>[];
  const entries = new Map(schema.map((entry) => [entry['name'], entry]));
  const command = entries.get('block_resize');
  t.like(command, { 'meta-type': 'command' });
  t.like(entries.get(command?.['arg-type']), { 'meta-type': 'object' });
  for (const entry of schema)
    if (entry['meta-type'] === 'array') t.true(entries.has(entry['element-type']), String(entry['name']));
});
