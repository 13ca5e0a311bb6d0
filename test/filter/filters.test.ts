/** Every other filter: what it adds, and that the data it passes on is the data. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import type { OptionsTree } from '../../src/block/options.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { startContent } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const { consistentRead, write, writeUnchanged, resize } = Permission;
const NAMES = new Set(['mem', 'slow', 'evicting']);
const OTHERS = DRIVERS.filter(({ name }) => !NAMES.has(name));
const SIZE = 300_001;
const MEM = { driver: 'mem', size: SIZE };

const graphOf = (t: ExecutionContext): Graph => testGraph(t, OTHERS);

const serves = test.macro({
  async exec(t: ExecutionContext, options: Record<string, unknown>, content: Buffer = Buffer.alloc(0)) {
    for (let round = 0; round < rounds(2, 50); round += 1) {
      const ownSeed = seed(500 + round);
      const graph = graphOf(t);
      graph.addObject('throttle-group', 'g', { 'x-bps-total': '1G', 'x-iops-total': 1_000_000 });
      const root = await openRoot(graph, { discard: 'unmap', ...options });
      const model = new ModelDisk(SIZE);
      content.copy(model.bytes);
      const random = new Random(ownSeed);
      const disk = childDisk(root, random);
      await exercise(disk, model, {
        random,
        operations: 300,
        concurrency: 10,
        maxLength: 30_000,
        borders: [4096],
      });
      await verify(disk, model, 99_999);
      const status = new BlockStatus();
      for (let at = 0; at < SIZE; at += status.length) {
        await root.status(at, SIZE - at, status);
        if (status.zero && !model.read(at, status.length).equals(Buffer.alloc(status.length)))
          t.fail('not zero');
      }
      await graph.close();
    }
    t.pass();
  },
  title: (name = '') => `random requests through ${name} agree with the model`,
});

const SLOW = { driver: 'raw', file: { driver: 'slow', size: SIZE } };
test('throttle', serves, { driver: 'throttle', 'throttle-group': 'g', file: SLOW });
test('delay', serves, { driver: 'delay', 'write-ms': 1, 'flush-ms': 1, file: SLOW });
test('log', serves, { driver: 'log', file: SLOW });
test('error that spares everything', serves, { driver: 'error', length: 0, file: SLOW });
test('copy-on-read', serves, { driver: 'copy-on-read', file: SLOW });
test('copy-before-write', serves, { driver: 'copy-before-write', file: SLOW, target: MEM });
test('blkdebug without rules', serves, { driver: 'blkdebug', image: SLOW });
test('blkdebug with narrow limits', serves, {
  driver: 'blkdebug',
  image: { driver: 'raw', file: { driver: 'slow', size: 303_104, alignment: 4096 }, size: SIZE },
  'max-transfer': 8192,
  'max-write-zero': 16384,
  'max-discard': 4096,
});
test('blkdebug with rules that never hold', serves, {
  driver: 'blkdebug',
  image: SLOW,
  'inject-error': [
    { event: 'read_aio', state: 7 },
    { event: 'none', sector: 1_000_000 },
  ],
  'set-state': { 0: { event: 'write_aio', state: 1, new_state: 2 } },
});
test('blkverify', serves, {
  driver: 'blkverify',
  raw: { driver: 'slow', size: SIZE },
  test: MEM,
  discard: 'ignore',
});
test('quorum', serves, {
  driver: 'quorum',
  'vote-threshold': 2,
  children: [SLOW, MEM, MEM],
  discard: 'ignore',
});
test('quorum, first in first out', serves, {
  driver: 'quorum',
  'vote-threshold': 1,
  'read-pattern': 'fifo',
  children: [SLOW, MEM],
});
test('preallocate', serves, { driver: 'preallocate', 'prealloc-size': '1M', file: SLOW });
test('a stack of them', serves, {
  driver: 'log',
  file: {
    driver: 'throttle',
    'throttle-group': 'g',
    file: { driver: 'copy-on-read', file: { driver: 'blkdebug', image: SLOW } },
  },
});

const fill = async (door: Child, value: number): Promise<void> =>
  door.write(Buffer.alloc(door.size, value), 0);

async function piece(door: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length, 0xdb);
  await door.read(bytes, offset);
  return bytes;
}

const isRefused = test.macro(async (t: ExecutionContext, options: OptionsTree, why: RegExp) => {
  const graph = graphOf(t);
  await t.throwsAsync(graph.open(options), { instanceOf: BlockError, message: why });
  t.is(graph.nodes.size, 0);
});
const MEM_RAW = { driver: 'raw', file: MEM };
test(
  'compress over a format without compression',
  isRefused,
  { driver: 'compress', file: { 'node-name': 'below', ...MEM_RAW } },
  /driver "raw" of node "below" has no compressed writes/,
);
test(
  'compress over a filter over such a format',
  isRefused,
  { driver: 'compress', file: { driver: 'log', file: MEM_RAW } },
  /has no compressed writes/,
);
test(
  'preallocate to no whole sectors',
  isRefused,
  { driver: 'preallocate', 'prealloc-align': 100, file: MEM },
  /"prealloc-align" is 100, must be a multiple of 512/,
);
test(
  "preallocate to no whole requests of the child's",
  isRefused,
  { driver: 'preallocate', 'prealloc-align': 512, file: { driver: 'slow', size: SIZE, alignment: 4096 } },
  /"prealloc-align" is 512, must be a multiple of 4096/,
);

test('preallocate goes on as it did when reopening is refused', async (t) => {
  const graph = graphOf(t);
  const options = { driver: 'preallocate', 'node-name': 'top', file: MEM };
  const node = await graph.open(options);
  await t.throwsAsync(graph.reopen([{ node, options: { ...options, 'prealloc-align': 100 } }]), {
    message: /"prealloc-align" is 100, must be a multiple of 512/,
  });
  const door = graph.attachRoot(node, { name: 'door', used: ALL_PERMISSIONS });
  await door.write(Buffer.alloc(10, 1), door.size);
  t.true(node.size % SIZE !== 0);
});

test('delay and error do what they say', async (t) => {
  const graph = graphOf(t);
  const root = await openRoot(graph, { driver: 'delay', 'read-ms': 60, file: MEM });
  const started = performance.now();
  t.false(root.tryRead(Buffer.alloc(10), 0, 10, 0));
  await root.read(Buffer.alloc(10), 0);
  t.true(performance.now() - started > 55);
  t.true(root.tryWrite(Buffer.alloc(10), 0, 10, 0));
  const bad = await openRoot(graph, {
    driver: 'error',
    iotype: 'read',
    errno: 28,
    from: 1000,
    length: 24,
    file: MEM,
  });
  await fill(bad, 3);
  t.is((await piece(bad, 0, 1000))[999], 3);
  t.is((await piece(bad, 1024, 10))[0], 3);
  await t.throwsAsync(piece(bad, 990, 11), { instanceOf: BlockError, code: 'ENOSPC' });
});

const BACKED = { size: 65536, cluster: 4096, seed: 21 };

async function chain(t: ExecutionContext, cor: Record<string, unknown>, given: Record<string, unknown> = {}) {
  const graph = graphOf(t);
  const base = await openRoot(
    graph,
    { driver: 'mem', 'node-name': 'base', size: 65536 },
    consistentRead | write,
  );
  await fill(base, 1);
  await graph.detach(base);
  await graph.open({
    driver: 'evicting',
    'node-name': 'middle',
    ...BACKED,
    'has-backing': true,
    file: { driver: 'slow' },
    backing: 'base',
  });
  const top = {
    ...BACKED,
    seed: 22,
    'has-backing': true,
    file: { driver: 'slow', seed: 2 },
    backing: 'middle',
    ...given,
  };
  const root = await openRoot(
    graph,
    { driver: 'copy-on-read', ...cor, file: { driver: 'evicting', 'node-name': 'top', ...top } },
    consistentRead,
  );
  const middle = startContent(BACKED, Buffer.alloc(65536, 1));
  return { graph, root, wanted: startContent({ ...BACKED, seed: 22 }, middle) };
}

/** How deep the layer lies that each cluster of 4 KiB of the top image comes from. */
async function depths(door: Child): Promise<number[]> {
  const found: number[] = [];
  const status = new BlockStatus();
  for (let at = 0; at < 65536; at += 4096) {
    await door.status(at, 4096, status);
    found.push(status.depth);
  }
  return found;
}

test('copy-on-read: after a read nothing below is needed, and nobody may write to it before', async (t) => {
  const { graph, root, wanted } = await chain(t, {});
  t.is(root.node.children.get('file')?.used, consistentRead | writeUnchanged);
  t.true((await depths(root)).some((depth) => depth > 0));
  t.true((await piece(root, 100, 65000)).equals(wanted.subarray(100, 65100)));
  t.deepEqual(new Set(await depths(root)), new Set([0]));
  await graph.setBacking(graph.node('top'), undefined);
  t.true((await piece(root, 0, 65536)).equals(wanted));
});

test('copy-on-read: bottom', async (t) => {
  const { root, wanted } = await chain(t, { bottom: 'middle' });
  const before = await depths(root);
  t.true((await piece(root, 0, 65536)).equals(wanted));
  t.deepEqual(
    await depths(root),
    before.map((depth) => (depth === 1 ? 0 : depth)),
  );
  await t.throwsAsync(chain(t, { bottom: 'nobody' }), {
    message: /no node "nobody" in the backing chain of "top"/,
  });
});

test('copy-on-read: a read does not fail because there is no room, a read-only image is left alone', async (t) => {
  const full = await chain(t, {}, { 'fail-per-mille': 1000 });
  t.true((await piece(full.root, 0, 65536)).equals(full.wanted));
  const readOnly = await chain(t, {});
  const top = readOnly.graph.node('top');
  await readOnly.graph.reopen([{ node: top, options: { ...top.options, 'read-only': true } }]);
  t.is(top.parents.values().next().value?.used, consistentRead);
  t.true((await piece(readOnly.root, 0, 65536)).equals(readOnly.wanted));
  t.true((await depths(readOnly.root)).some((depth) => depth > 0));
});

test('copy-on-read while others write: nothing is lost', async (t) => {
  for (let round = 0; round < rounds(3, 100); round += 1) {
    const { graph, root, wanted } = await chain(t, {});
    const model = new ModelDisk(65536);
    wanted.copy(model.bytes);
    const writer = graph.attachRoot(graph.node('top'), { name: 'writer', used: consistentRead | write });
    const random = new Random(seed(60 + round));
    const reading = (async () => {
      for (let count = 0; count < 60; count += 1)
        await piece(root, random.below(60_000), random.between(1, 5000));
    })();
    await exercise(childDisk(writer, random), model, {
      random,
      operations: 150,
      concurrency: 4,
      maxLength: 6000,
    });
    await reading;
    await verify(root, model);
  }
  t.pass();
});

test('preallocate: the file grows in large steps and is cut off at the end', async (t) => {
  const path = join(await tempDir(t), 'disk.raw');
  await writeFile(path, 'start');
  const graph = graphOf(t);
  const file = { driver: 'file', filename: path };
  const root = await openRoot(graph, {
    driver: 'preallocate',
    'node-name': 'p',
    'prealloc-size': '8M',
    'prealloc-align': '1M',
    file,
  });
  await root.write(Buffer.alloc(5000, 7), 5);
  t.is(root.size, 5005);
  t.is((await stat(path)).size, 9 * 1024 * 1024);
  for (let at = 5005; at < 200_000; at += 1000) await root.write(Buffer.alloc(1000, 8), at);
  t.is((await stat(path)).size, 9 * 1024 * 1024);
  t.is((await piece(root, root.size - 10, 20)).toString('hex'), `${'08'.repeat(10)}${'00'.repeat(10)}`);
  const wanted = await piece(root, 0, root.size);
  await graph.detach(root);
  await graph.remove('p');
  t.true((await readFile(path)).equals(wanted));
});

test('preallocate below a format that grows', async (t) => {
  const path = join(await tempDir(t), 'disk.img');
  await writeFile(path, '');
  const graph = graphOf(t);
  const file = { driver: 'preallocate', 'prealloc-size': '2M', file: { driver: 'file', filename: path } };
  const options = { size: SIZE, cluster: 4096, seed: 3 };
  const root = await openRoot(
    graph,
    { driver: 'evicting', 'node-name': 'e', ...options, file },
    consistentRead | write,
  );
  const model = new ModelDisk(SIZE);
  startContent(options, Buffer.alloc(0)).copy(model.bytes);
  const random = new Random(seed(8));
  await exercise(childDisk(root, random), model, {
    random,
    operations: 300,
    concurrency: 8,
    maxLength: 20_000,
  });
  await verify(root, model);
  await graph.detach(root);
  t.is((await stat(path)).size % 4096, 0);
  await graph.remove('e');
  t.true((await stat(path)).size < 2 * 1024 * 1024);
  t.is(resize, 8);
});

test('compress: what is written through it is compressed, and right', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const dir = await tempDir(t);
  const path = join(dir, 'disk.qcow2');
  const content = new Random(seed(9)).softBytes(3_000_000);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(content.length)]);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const root = await openRoot(
    graph,
    { driver: 'compress', file: { driver: 'qcow2', file: { driver: 'file', filename: path } } },
    consistentRead | write,
  );
  for (let at = 0; at < content.length; at += 700_000)
    await root.write(content.subarray(at, at + 700_000), at);
  t.true((await piece(root, 0, content.length)).equals(content));
  const has = root.node.filteredChild().node.impl;
  const compresses = has.family === 'mapping' && has.writeCompressed !== undefined;
  await graph.close();
  await writeFile(join(dir, 'wanted.raw'), content);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', join(dir, 'wanted.raw'), path]);
  const { stdout } = await run('qemu-img', ['check', '--output=json', path]);
  const report = JSON.parse(stdout) as Record<string, number>;
  if (compresses) t.true((report['compressed-clusters'] ?? 0) > 40, stdout);
  else t.log('the qcow2 driver has no compressed writes: they arrive plain');
});
