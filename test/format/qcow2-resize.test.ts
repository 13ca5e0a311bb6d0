/** Resizing qcow2 images, between bursts of random work, with a model and qemu-img as judges. */
import { writeFile } from 'node:fs/promises';
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

interface Case {
  readonly options: string;
  readonly cluster: number;
  readonly start: number;
  readonly max: number;
  /** Below is a full image of `max` bytes: nothing of it may show where the disk grows. */
  readonly backing?: boolean;
  readonly snapshot?: boolean;
}

const MIB = 1024 * 1024;

async function makeImage(folder: string, spec: Case, model: ModelDisk): Promise<string> {
  const image = join(folder, 'image.qcow2');
  const below: string[] = [];
  if (spec.backing === true) {
    const raw = join(folder, 'base.raw');
    const content = Buffer.alloc(spec.max, 'base');
    await writeFile(raw, content);
    content.copy(model.bytes);
    below.push('-b', raw, '-F', 'raw');
  }
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', spec.options, ...below, image, `${spec.start}`]);
  if (spec.snapshot === true) await run('qemu-img', ['snapshot', '-c', 'before', image]);
  return image;
}

const resizes = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = seed(spec.max + spec.cluster);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const random = new Random(start);
  const folder = await tempDir(t);
  const model = new ModelDisk(spec.start);
  const image = await makeImage(folder, spec, model);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', { discard: 'unmap' });
  const root = graph.attachRoot(node, { name: 'test', used: 15 });
  const disk = childDisk(root, random);
  for (let round = 0; round < rounds(6, 60); round += 1) {
    await exercise(disk, model, {
      random,
      operations: 60,
      concurrency: 6,
      maxLength: Math.min(model.size, 4 * spec.cluster + 70_000),
      borders: [spec.cluster, 4096],
    });
    const size = Math.ceil((random.below(spec.max) + 1) / 512) * 512;
    await root.resize(size, size < model.size);
    model.resize(size);
    t.is(root.size, size);
    await verify(disk, model);
  }
  await graph.close();
  const raw = join(folder, 'expected.raw');
  await writeFile(raw, model.bytes);
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image]));
});

test.serial('64k clusters', resizes, {
  options: 'cluster_size=64k',
  cluster: 65536,
  start: 2 * MIB,
  max: 48 * MIB,
});
test.serial('512-byte clusters: the L1 table takes many', resizes, {
  options: 'cluster_size=512,refcount_bits=64',
  cluster: 512,
  start: 100 * 1024,
  max: 12 * MIB,
});
test.serial('over a longer backing file', resizes, {
  options: 'cluster_size=4k',
  cluster: 4096,
  start: MIB + 512,
  max: 6 * MIB,
  backing: true,
});
test.serial('version 2 over a longer backing file', resizes, {
  options: 'cluster_size=4k,compat=0.10',
  cluster: 4096,
  start: MIB + 512,
  max: 6 * MIB,
  backing: true,
});
test.serial('extended L2 over a longer backing file', resizes, {
  options: 'cluster_size=16k,extended_l2=on',
  cluster: 16384,
  start: MIB + 512,
  max: 12 * MIB,
  backing: true,
});
test.serial('with a snapshot', resizes, {
  options: 'cluster_size=4k',
  cluster: 4096,
  start: MIB,
  max: 6 * MIB,
  snapshot: true,
});

test('what can not be done is refused and changes nothing', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=512', image, '1M']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const root = graph.attachRoot(await graph.openImage(image, 'qcow2'), { name: 'test', used: 15 });
  await t.throwsAsync(root.resize(1000), { message: /must be a multiple of 512/ });
  await t.throwsAsync(root.resize(512), { message: /it has 1048576, and shrinking was not asked for/ });
  await t.throwsAsync(root.resize(2 ** 40), {
    message: /L1 table would have 33554432 entries, must be at most 4194304/,
  });
  t.is(root.size, MIB);
});
