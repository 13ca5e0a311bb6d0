/** qcow2 against a model and against qemu-img: images made by it, changed here at random, judged by it. */
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

interface Case {
  /** `-o` of qemu-img create, for the top image. */
  readonly options: string;
  readonly size: number;
  /** Bytes of a cluster, where the borders are. */
  readonly cluster: number;
  /** Images below. The lowest holds data, compressed if asked. */
  readonly chain?: number;
  /** The base (or without a chain the image itself) is written by `qemu-img convert` with these arguments. */
  readonly filled?: readonly string[];
  readonly nodeOptions?: Readonly<Record<string, unknown>>;
  /** An internal snapshot is taken before the work: everything is shared then. */
  readonly snapshot?: boolean;
}

const MIB = 1024 * 1024;

/** Some data, some holes. */
function patchy(random: Random, size: number): ModelDisk {
  const model = new ModelDisk(size);
  for (let at = 0; at < size;) {
    const length = Math.min(size - at, random.between(1, 40) * 4096);
    if (random.chance(0.6)) model.write(random.softBytes(length), at);
    at += length;
  }
  return model;
}

/** Makes the images of a case; returns the top one and what it holds. */
async function makeImages(
  t: ExecutionContext,
  folder: string,
  random: Random,
  spec: Case,
): Promise<{ top: string; model: ModelDisk }> {
  const { size, chain = 0, filled } = spec;
  const options = spec.options.replace('DATA', join(folder, 'data.raw'));
  const top = join(folder, 'top.qcow2');
  const model = filled === undefined ? new ModelDisk(size) : patchy(random, size);
  if (filled !== undefined) {
    const raw = join(folder, 'content.raw');
    await writeFile(raw, model.bytes);
    const lowest = chain === 0 ? top : join(folder, 'base0.qcow2');
    const made = chain === 0 ? ['-o', options] : [];
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...made, ...filled, raw, lowest]);
  } else if (chain === 0) {
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, top, `${size}`]);
  }
  for (let layer = 1; layer <= chain; layer += 1) {
    const below = `base${layer - 1}.qcow2`;
    if (layer === 1 && filled === undefined)
      await run('qemu-img', ['create', '-f', 'qcow2', join(folder, below), `${size}`]);
    const name = layer === chain ? top : join(folder, `base${layer}.qcow2`);
    const made = layer === chain ? ['-o', options] : [];
    await run('qemu-img', ['create', '-f', 'qcow2', ...made, '-b', below, '-F', 'qcow2', name]);
  }
  if (spec.snapshot === true) await run('qemu-img', ['snapshot', '-c', 'before', top]);
  t.log(`${options}: made`);
  return { top, model };
}

/** The model's content and qemu-img's of the image are equal, and its check finds nothing at all. */
async function judge(t: ExecutionContext, folder: string, top: string, model: ModelDisk): Promise<void> {
  const raw = join(folder, 'expected.raw');
  await writeFile(raw, model.bytes);
  await t.notThrowsAsync(run('qemu-img', ['check', top]));
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, top]));
}

const differential = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = seed(spec.size + spec.cluster);
  const random = new Random(start);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const folder = await tempDir(t);
  const { top, model } = await makeImages(t, folder, random, spec);
  for (let round = 0; round < rounds(2, 12); round += 1) {
    const graph = new Graph({ drivers: DRIVERS });
    try {
      const node = await graph.openImage(top, 'qcow2', { discard: 'unmap', ...spec.nodeOptions });
      const disk = childDisk(graph.attachRoot(node, { name: 'test', used: 15 }), random);
      await verify(disk, model);
      await exercise(disk, model, {
        random,
        operations: rounds(400, 4000),
        concurrency: 8,
        maxLength: Math.min(spec.size / 4, Math.max(2 * spec.cluster, 200_000)),
        borders: [spec.cluster, 4096, spec.cluster * (spec.cluster / 8)],
      });
      await verify(disk, model);
    } finally {
      await graph.close();
    }
    await judge(t, folder, top, model);
  }
});

const small = { 'l2-cache-size': 4096, 'refcount-cache-size': 4096, 'l2-cache-entry-size': 512 };
const large = { size: 40 * MIB, cluster: 65536 };

test.serial('64k clusters', differential, { ...large, options: 'cluster_size=64k' });
test.serial('512-byte clusters', differential, {
  options: 'cluster_size=512',
  size: 3 * MIB + 512,
  cluster: 512,
});
test.serial('512-byte clusters, 1-bit refcounts, small caches', differential, {
  options: 'cluster_size=512,refcount_bits=1',
  size: 5 * MIB,
  cluster: 512,
  nodeOptions: small,
});
test.serial('512-byte clusters, 64-bit refcounts: the refcount table moves', differential, {
  options: 'cluster_size=512,refcount_bits=64',
  size: 12 * MIB,
  cluster: 512,
  nodeOptions: small,
});
test.serial('4k clusters, 2-bit refcounts, chain of 3 over data', differential, {
  options: 'cluster_size=4k,refcount_bits=2',
  size: 8 * MIB,
  cluster: 4096,
  chain: 3,
  filled: [],
});
test.serial('2M clusters', differential, { options: 'cluster_size=2M', size: 80 * MIB, cluster: 2 * MIB });
test.serial('2M clusters over a compressed base', differential, {
  options: 'cluster_size=2M,refcount_bits=32',
  size: 40 * MIB,
  cluster: 2 * MIB,
  chain: 1,
  filled: ['-c'],
});
test.serial('version 2', differential, { ...large, options: 'compat=0.10,cluster_size=64k' });
test.serial('version 2 over data', differential, {
  ...large,
  options: 'compat=0.10,cluster_size=64k',
  chain: 1,
  filled: [],
});
test.serial('compressed with zlib', differential, { ...large, options: 'cluster_size=64k', filled: ['-c'] });
test.serial('compressed with zlib, 4k clusters', differential, {
  options: 'cluster_size=4k',
  size: 8 * MIB,
  cluster: 4096,
  filled: ['-c'],
});
test.serial('compressed with zstd', differential, {
  ...large,
  options: 'compression_type=zstd',
  filled: ['-c'],
});
test.serial('extended L2', differential, {
  ...large,
  options: 'extended_l2=on,cluster_size=64k',
});
test.serial('extended L2 over a chain of 2', differential, {
  options: 'extended_l2=on,cluster_size=16k',
  size: 20 * MIB,
  cluster: 16384,
  chain: 2,
  filled: [],
});
test.serial('extended L2, compressed', differential, {
  ...large,
  options: 'extended_l2=on,cluster_size=64k',
  filled: ['-c'],
});
test.serial('O_DIRECT', differential, {
  ...large,
  options: 'cluster_size=64k',
  nodeOptions: { 'cache.direct': true },
});
test.serial('lazy refcounts', differential, { ...large, options: 'lazy_refcounts=on' });
test.serial('shared with a snapshot', differential, {
  ...large,
  options: 'cluster_size=64k',
  filled: [],
  snapshot: true,
});
test.serial('shared with a snapshot, compressed', differential, {
  ...large,
  options: 'cluster_size=4k',
  filled: ['-c'],
  snapshot: true,
});
test.serial('shared with a snapshot, extended L2', differential, {
  ...large,
  options: 'extended_l2=on,cluster_size=16k',
  filled: [],
  snapshot: true,
});
test.serial('preallocated metadata', differential, { ...large, options: 'preallocation=metadata' });
test.serial('external data file', differential, { ...large, options: 'data_file=DATA' });
test.serial('external data file over data, extended L2', differential, {
  ...large,
  options: 'data_file=DATA,extended_l2=on',
  chain: 1,
  filled: [],
});
test.serial('raw external data file', differential, { ...large, options: 'data_file=DATA,data_file_raw=on' });

test('reopened for writing and back, with other options, nothing is lost', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const top = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'lazy_refcounts=on', top, '16M']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const file = { driver: 'file', filename: top };
  const common = { driver: 'qcow2', 'node-name': 'disk', file };
  const node = await graph.open({ ...common, 'read-only': true });
  const door = graph.attachRoot(node, { name: 'test', used: 1 });
  const bytes = Buffer.alloc(300_000, 5);
  for (const [index, cache] of [64, 128].entries()) {
    const options = { ...common, 'read-only': false, 'l2-cache-size': cache * 1024, discard: 'unmap' };
    await graph.reopen([{ node, options }]);
    graph.setRootPermissions(door, { used: 15, shared: 15 });
    await door.write(bytes, index * 5_000_001);
    graph.setRootPermissions(door, { used: 1, shared: 15 });
    await graph.reopen([{ node, options: { ...common, 'read-only': true } }]);
    t.true(node.readOnly);
    await t.throwsAsync(door.write(bytes, 0));
    await t.notThrowsAsync(run('qemu-img', ['check', '-U', top]));
  }
  const actual = Buffer.alloc(300_000);
  await door.read(actual, 5_000_001);
  t.true(actual.equals(bytes));
});

test('writing and discarding again and again does not make the file grow', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const top = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', top, '1G']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(top, 'qcow2', { discard: 'unmap' });
  const door = graph.attachRoot(node, { name: 'test', used: 15 });
  const length = 4 * MIB;
  for (let cycle = 0; cycle < 20; cycle += 1) {
    await door.write(Buffer.alloc(length, cycle + 1), cycle * 3 * length + 5000);
    await door.discard(cycle * 3 * length, 2 * length);
    await door.flush();
    // Clusters are given back behind the flush.
    await until(async () => (await stat(top)).blocks * 512 < MIB, 'clusters that are given back');
  }
  await graph.close();
  const { size, blocks } = await stat(top);
  t.true(size < 3 * length, `${size} bytes`);
  t.true(blocks * 512 < MIB, `${blocks * 512} bytes allocated`);
  await t.notThrowsAsync(run('qemu-img', ['check', top]));
});
