/** What discards do to the file of a qcow2 image: places that are kept, holes that are made, growth that ends. */
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { changeSnapshots } from '../../src/block/internal-snapshots.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const SIZE = 8 * MIB;

async function makeImage(t: ExecutionContext, options: string): Promise<string> {
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, image, `${SIZE}`]);
  return image;
}

async function openImage(t: ExecutionContext, image: string, options: Record<string, unknown>) {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close().catch(() => undefined));
  const node = await graph.openImage(image, 'qcow2', { discard: 'unmap', ...options });
  return { graph, node, root: graph.attachRoot(node, { name: 'test', used: 15 }) };
}

async function judge(t: ExecutionContext, image: string, model: ModelDisk): Promise<void> {
  const raw = `${image}.raw`;
  await writeFile(raw, model.bytes);
  const check = await attempt('qemu-img', ['check', image]);
  t.is(check.code, 0, check.stdout + check.stderr);
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image]));
}

const allocated = async (image: string): Promise<number> => (await stat(image)).blocks * 512;

interface Way {
  readonly create?: string;
  readonly options: Record<string, unknown>;
  readonly punches: boolean;
}

/** Everything is written, half of it discarded and written again. */
const keeps = test.macro(
  async (t: ExecutionContext, { create = 'cluster_size=64k', options, punches }: Way) => {
    if (!canRun(t, 'qemu-img')) return;
    const image = await makeImage(t, create);
    const model = new ModelDisk(SIZE);
    new Random(5).softBytes(SIZE).copy(model.bytes);
    const first = await openImage(t, image, { 'discard-no-unref': true, ...options });
    await first.root.write(model.bytes, 0);
    await first.graph.close();
    const full = await stat(image);
    const { graph, root } = await openImage(t, image, { 'discard-no-unref': true, ...options });
    await root.discard(2 * MIB, 4 * MIB);
    model.zero(2 * MIB, 4 * MIB);
    await graph.close();
    await judge(t, image, model);
    const map = JSON.parse((await run('qemu-img', ['map', '--output=json', image])).stdout) as {
      start: number;
      zero: boolean;
      offset?: number;
    }[];
    const middle = map.find(({ start }) => start === 2 * MIB);
    t.true(middle?.zero);
    t.true((middle?.offset ?? 0) > 0, 'it has its place');
    t.is((await allocated(image)) < full.blocks * 512 - 3 * MIB, punches);
    const again = await openImage(t, image, { 'discard-no-unref': true, ...options });
    await again.root.write(Buffer.alloc(4 * MIB, 9), 2 * MIB);
    model.write(Buffer.alloc(4 * MIB, 9), 2 * MIB);
    await again.root.discard(3 * MIB, MIB);
    await again.root.write(Buffer.alloc(MIB, 8), 3 * MIB);
    model.write(Buffer.alloc(MIB, 8), 3 * MIB);
    await again.graph.close();
    t.is((await stat(image)).size, full.size);
    await judge(t, image, model);
  },
);

test.serial('discard-no-unref keeps places, and makes holes', keeps, { options: {}, punches: true });
test.serial('discard-no-unref without holes', keeps, {
  options: { 'pass-discard-request': false },
  punches: false,
});
test.serial('discard-no-unref, extended L2', keeps, { create: 'extended_l2=on', options: {}, punches: true });

const agrees = test.macro(async (t: ExecutionContext, create: string, snapshot: boolean) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = seed(create.length);
  const random = new Random(start);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const image = await makeImage(t, create);
  const model = new ModelDisk(SIZE);
  for (let round = 0; round < rounds(2, 20); round += 1) {
    const { graph, node, root } = await openImage(t, image, { 'discard-no-unref': true });
    const work = {
      random,
      operations: 200,
      concurrency: 8,
      maxLength: 300_000,
      borders: [65536],
      discardZeroes: true,
    };
    await exercise(childDisk(root, random), model, { ...work, discardZeroes: false });
    await root.flush();
    if (snapshot) await changeSnapshots(graph, node, (all) => all.create(`s${round}`));
    await exercise(childDisk(root, random), model, { ...work, discardZeroes: false });
    await verify(childDisk(root), model);
    await graph.close();
    await judge(t, image, model);
  }
});

test.serial('discard-no-unref agrees with the model', agrees, 'cluster_size=4k', false);
test.serial('discard-no-unref with snapshots', agrees, 'cluster_size=64k', true);
test.serial('discard-no-unref, extended L2 with snapshots', agrees, 'extended_l2=on,cluster_size=16k', true);

test('discard-no-unref needs version 3', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await makeImage(t, 'compat=0.10');
  const error = await t.throwsAsync(openImage(t, image, { 'discard-no-unref': true }));
  t.regex(error.message, /discard-no-unref is on, which needs version 3/);
});

const passes = test.macro(async (t: ExecutionContext, option: string, on: boolean) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await makeImage(t, 'cluster_size=64k');
  const model = new ModelDisk(SIZE);
  new Random(6).softBytes(SIZE).copy(model.bytes);
  const { graph, node, root } = await openImage(t, image, { [option]: on });
  await root.write(model.bytes, 0);
  await root.flush();
  if (option !== 'pass-discard-request') {
    await changeSnapshots(graph, node, (all) => all.create('one'));
    await root.write(model.bytes, 0);
    await root.flush();
  }
  const before = await allocated(image);
  if (option === 'pass-discard-request') {
    await root.discard(0, 4 * MIB);
    model.zero(0, 4 * MIB);
  } else await changeSnapshots(graph, node, (all) => all.delete('one'));
  await graph.close();
  t.is((await allocated(image)) < before - 3 * MIB, on);
  await judge(t, image, model);
});

for (const on of [true, false]) {
  test(`pass-discard-request=${on ? 'on' : 'off'}`, passes, 'pass-discard-request', on);
  test(`pass-discard-snapshot=${on ? 'on' : 'off'}`, passes, 'pass-discard-snapshot', on);
}

test('pass-discard-other: what is moved leaves a hole if asked for', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  for (const on of [true, false]) {
    const image = await makeImage(t, 'cluster_size=64k');
    const model = new ModelDisk(SIZE);
    new Random(6).softBytes(SIZE).copy(model.bytes);
    const { graph, root } = await openImage(t, image, { 'pass-discard-other': on });
    for (let at = 0; at < SIZE; at += 65536)
      await root.writeCompressed(model.bytes.subarray(at, at + 65536), at);
    await root.flush();
    const before = await allocated(image);
    await root.write(Buffer.alloc(SIZE, 3), 0);
    model.bytes.fill(3);
    await graph.close();
    const grown = (await allocated(image)) - before;
    t.is(grown < SIZE, on, `it grew by ${grown}`);
    await judge(t, image, model);
  }
});

test('a file does not grow without bound', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await makeImage(t, 'cluster_size=512,refcount_bits=64');
  const model = new ModelDisk(SIZE);
  const random = new Random(seed(8));
  const { graph, node, root } = await openImage(t, image, {});
  const sizes: number[] = [];
  for (let cycle = 0; cycle < rounds(12, 100); cycle += 1) {
    const at = random.below(6) * MIB;
    const bytes = random.bytes(MIB);
    await root.write(bytes, at);
    await changeSnapshots(graph, node, (all) => all.create('passing'));
    await root.discard(at, MIB);
    await root.flush();
    await root.write(bytes, at);
    await changeSnapshots(graph, node, (all) => all.delete('passing'));
    await root.discard(at, MIB);
    await root.flush();
    sizes.push((await stat(image)).size);
  }
  await graph.close();
  t.log(sizes.join(' '));
  // At most: what the snapshot has, what was freed and is not given back yet, what is written now; and tables, an eighth each.
  t.true((sizes.at(-1) ?? 0) <= 3 * MIB * 1.125, sizes.join(' '));
  await judge(t, image, model);
});
