/** Persistent bitmaps of qcow2 against a model and against QEMU, which both change the same image in turn. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { applySnapshot, changeSnapshots } from '../../src/block/internal-snapshots.ts';
import type { Node } from '../../src/block/node.ts';
import { runActions } from '../../src/control/actions/action.ts';
import {
  addBitmap,
  clearBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../src/control/actions/bitmap.ts';
import { alignDown, alignUp } from '../../src/util/sizes.ts';
import { extentsOf, qemuExtents } from '../helpers/dirty-extents.ts';
import { verify } from '../helpers/exercise.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { ModelBitmap, ModelImage } from './bitmap-model.ts';

const MIB = 1024 * 1024;
const NODE = 'disk';

interface Case {
  readonly options: string;
  readonly size: number;
  readonly snapshots?: boolean;
  readonly shrinks?: boolean;
}

/** An open image and its model, changed together. */
class Work {
  private readonly graph: Graph;
  private readonly node: Node;
  private readonly door: Child;
  private readonly model: ModelImage;
  private readonly random: Random;
  private readonly spec: Case;

  constructor(parts: {
    graph: Graph;
    node: Node;
    door: Child;
    model: ModelImage;
    random: Random;
    spec: Case;
  }) {
    this.graph = parts.graph;
    this.node = parts.node;
    this.door = parts.door;
    this.model = parts.model;
    this.random = parts.random;
    this.spec = parts.spec;
  }

  async step(): Promise<void> {
    const kind = this.random.below(20);
    if (kind < 10) await this.change();
    else if (kind < 12) await this.add();
    else if (kind < 18) await this.alter();
    else if (kind === 18) await this.resize();
    else if (this.spec.snapshots === true) await this.snapshot();
  }

  private async change(): Promise<void> {
    const { random, model, door } = this;
    const { size } = model.disk;
    const offset = random.below(size);
    const length = random.between(1, Math.min(size - offset, 150_000));
    const kind = random.below(4);
    if (kind < 2) {
      const bytes = random.softBytes(length);
      await door.write(bytes, offset);
      model.disk.write(bytes, offset);
      model.touched(offset, length);
    } else if (kind === 2) {
      await door.writeZeroes(offset, length, random.chance(0.5) ? ZeroFlag.mayUnmap : 0);
      model.disk.zero(offset, length);
      model.touched(offset, length);
    } else await this.discard(offset, length);
  }

  /** Of whole units only; what it leaves is taken over from the disk. */
  private async discard(offset: number, length: number): Promise<void> {
    const { model, door } = this;
    const unit = this.node.limits.discardAlignment;
    const start = alignUp(offset, unit);
    const end = offset + length === model.disk.size ? model.disk.size : alignDown(offset + length, unit);
    await door.discard(offset, length);
    if (end <= start) return;
    const bytes = Buffer.alloc(end - start);
    await door.read(bytes, start);
    model.disk.write(bytes, start);
    model.touched(start, end - start);
  }

  private async add(): Promise<void> {
    const { random, model } = this;
    const name = `b${random.below(6)}`;
    if (model.bitmaps.has(name)) return;
    const granularity = 2 ** random.between(9, 17);
    const disabled = random.chance(0.3);
    const given = { node: NODE, name, granularity, persistent: true, disabled };
    await runActions(this.graph, [addBitmap(this.graph, given)]);
    model.bitmaps.set(name, new ModelBitmap(granularity, !disabled));
  }

  private async alter(): Promise<void> {
    const { random, model, graph } = this;
    const names = [...model.bitmaps.keys()];
    if (names.length === 0) return;
    const name = random.pick(names);
    const bitmap = model.bitmaps.get(name);
    if (bitmap === undefined) return;
    const given = { node: NODE, name };
    const kind = random.below(8);
    if (kind === 0) {
      await runActions(graph, [removeBitmap(graph, given)]);
      model.bitmaps.delete(name);
    } else if (kind < 3) {
      await runActions(graph, [clearBitmap(graph, given)]);
      bitmap.granules.clear();
    } else if (kind < 6) {
      await runActions(graph, [enableBitmap(graph, given, !bitmap.enabled)]);
      bitmap.enabled = !bitmap.enabled;
    } else {
      const other = random.pick(names);
      await runActions(graph, [mergeBitmaps(graph, { node: NODE, target: name, bitmaps: [other] })]);
      const from = model.bitmaps.get(other);
      if (from !== undefined) bitmap.merge(from, model.disk.size);
    }
  }

  private async resize(): Promise<void> {
    const { model, random } = this;
    const grows = this.spec.shrinks === false || random.chance(0.6);
    const size = alignUp(Math.max(MIB, model.disk.size + (grows ? 1 : -1) * random.below(MIB)), 512);
    if (size > 1.5 * this.spec.size) return;
    await this.door.resize(size, true);
    model.resize(size);
  }

  private async snapshot(): Promise<void> {
    const { model, random, graph, node } = this;
    const names = [...model.snapshots.keys()];
    const kind = random.below(3);
    if (kind === 0 && names.length < 3) {
      const name = `s${random.below(1000)}`;
      if (names.includes(name)) return;
      await changeSnapshots(graph, node, (snapshots) => snapshots.create(name));
      model.snapshots.set(name, model.disk.clone());
    } else if (names.length > 0) {
      const name = random.pick(names);
      if (kind === 1) {
        await applySnapshot(graph, node, name);
        model.apply(name);
      } else {
        await changeSnapshots(graph, node, (snapshots) => snapshots.delete(name));
        model.snapshots.delete(name);
      }
    }
  }
}

/** QEMU changes bitmaps and content of an image that nobody has open. */
async function changedByQemu(image: string, model: ModelImage, random: Random): Promise<void> {
  if (model.bitmaps.size < 6 && random.chance(0.6)) {
    const granularity = 2 ** random.between(9, 17);
    const name = [0, 1, 2, 3, 4, 5].map((n) => `b${n}`).find((free) => !model.bitmaps.has(free)) ?? 'b9';
    await run('qemu-img', ['bitmap', '--add', '-g', `${granularity}`, '-f', 'qcow2', image, name]);
    model.bitmaps.set(name, new ModelBitmap(granularity, true));
  }
  const [first, second] = [...model.bitmaps.keys()];
  if (first !== undefined && second !== undefined && random.chance(0.5)) {
    await run('qemu-img', ['bitmap', '--merge', first, '-f', 'qcow2', image, second]);
    const [from, to] = [model.bitmaps.get(first), model.bitmaps.get(second)];
    if (from !== undefined) to?.merge(from, model.disk.size);
  }
  if (first !== undefined && random.chance(0.3)) {
    await run('qemu-img', ['bitmap', '--clear', '-f', 'qcow2', image, first]);
    model.bitmaps.get(first)?.granules.clear();
  }
  const offset = alignDown(random.below(model.disk.size - 70_000), 512);
  await run('qemu-io', ['-f', 'qcow2', '-c', `write -P 77 ${offset} 65536`, image]);
  model.disk.write(Buffer.alloc(65536, 77), offset);
  model.touched(offset, 65536);
}

interface StoredBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly flags: readonly string[];
}

async function bitmapsByQemu(image: string): Promise<readonly StoredBitmap[]> {
  const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', image]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: StoredBitmap[] } } };
  return info['format-specific'].data.bitmaps ?? [];
}

/** qemu-img finds nothing wrong, and sees the model's content and bitmaps. */
async function judge(t: ExecutionContext, image: string, model: ModelImage): Promise<void> {
  const raw = join(await tempDir(t), 'expected.raw');
  await writeFile(raw, model.disk.bytes);
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image]));
  const found = await bitmapsByQemu(image);
  const wanted = [...model.bitmaps].map(([name, { granularity, enabled }]) => ({
    flags: enabled ? ['auto'] : [],
    name,
    granularity,
  }));
  const byName = (a: { name: string }, b: { name: string }): number => a.name.localeCompare(b.name);
  t.deepEqual([...found].sort(byName), wanted.sort(byName));
  for (const [name, bitmap] of [...model.bitmaps].slice(0, 2))
    t.deepEqual(await qemuExtents(t, image, name), bitmap.extents(model.disk.size), name);
}

function sameBitmaps(t: ExecutionContext, node: Node, model: ModelImage): void {
  const found = [...(node.watch?.bitmaps.values() ?? [])];
  t.deepEqual(found.map(({ name }) => name).sort(), [...model.bitmaps.keys()].sort());
  for (const bitmap of found) {
    t.false(bitmap.inconsistent, bitmap.name);
    t.deepEqual(extentsOf(bitmap), model.bitmaps.get(bitmap.name)?.extents(model.disk.size), bitmap.name);
  }
}

const agrees = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo')) return;
  const start = seed(spec.size + spec.options.length);
  const random = new Random(start);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const options = spec.options.replace('DATA', join(folder, 'data.raw'));
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, `${spec.size}`]);
  const model = new ModelImage(spec.size);
  for (let round = 0; round < rounds(2, 10); round += 1) {
    await changedByQemu(image, model, random);
    const graph = new Graph({ drivers: DRIVERS });
    try {
      const node = await graph.openImage(image, 'qcow2', { 'node-name': NODE, discard: 'unmap' });
      const door = graph.attachRoot(node, { name: 'test', used: 15 });
      sameBitmaps(t, node, model);
      const work = new Work({ graph, node, door, model, random, spec });
      for (let step = 0; step < rounds(60, 400); step += 1) await work.step();
      await verify(door, model.disk);
      sameBitmaps(t, node, model);
    } finally {
      await graph.close();
    }
    await judge(t, image, model);
  }
});

const CLUSTERS = [
  { name: '512', size: 2 * MIB + 1024 },
  { name: '4k', size: 4 * MIB },
  { name: '64k', size: 8 * MIB },
  { name: '2M', size: 12 * MIB },
] as const;

for (const cluster of CLUSTERS) {
  for (const bits of [1, 16, 64]) {
    const shape = `cluster_size=${cluster.name},refcount_bits=${bits}`;
    test.serial(shape, agrees, { options: shape, size: cluster.size, snapshots: bits > 1 });
    if (cluster.name === '64k' || cluster.name === '2M')
      test.serial(`${shape}, extended L2`, agrees, {
        options: `${shape},extended_l2=on`,
        size: cluster.size,
        snapshots: bits > 1,
      });
    test.serial(`${shape}, data file`, agrees, { options: `${shape},data_file=DATA`, size: cluster.size });
    test.serial(`${shape}, raw data file`, agrees, {
      options: `${shape},data_file=DATA,data_file_raw=on`,
      size: cluster.size,
      shrinks: false,
    });
  }
}

test.serial('lazy refcounts', agrees, {
  options: 'cluster_size=4k,lazy_refcounts=on',
  size: 4 * MIB,
  snapshots: true,
});

test.serial('reopened for writing and back: stored, in use while it may be written', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-nbd', 'nbdinfo')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '16M']);
  await run('qemu-img', ['bitmap', '--add', '-g', '4k', image, 'b']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const common = { driver: 'qcow2', 'node-name': NODE, file: { driver: 'file', filename: image } };
  const node = await graph.open({ ...common, 'read-only': true });
  const door = graph.attachRoot(node, { name: 'test', used: 1 });
  const add = (name: string) => addBitmap(graph, { node: NODE, name, persistent: true, disabled: false });
  await t.throwsAsync(runActions(graph, [add('c')]), { message: /read-only/ });
  for (const offset of [0, 5 * MIB]) {
    await graph.reopen([{ node, options: { ...common, 'read-only': false } }]);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['auto']],
      'nothing was written yet',
    );
    graph.setRootPermissions(door, { used: 15, shared: 15 });
    await door.write(Buffer.alloc(5000, 1), offset);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['in-use', 'auto']],
    );
    graph.setRootPermissions(door, { used: 1, shared: 15 });
    await graph.reopen([{ node, options: { ...common, 'read-only': true } }]);
    t.deepEqual(
      (await bitmapsByQemu(image)).map(({ flags }) => flags),
      [['auto']],
    );
  }
  await graph.close();
  const wanted = [
    [0, 8192],
    [5 * MIB, 8192],
  ] as const;
  t.deepEqual(await qemuExtents(t, image, 'b'), wanted);
  const copy = `${image}.copy`;
  await blockfuse(['convert', '--bitmaps', '-O', 'qcow2', image, copy]);
  t.deepEqual(await qemuExtents(t, copy, 'b'), wanted);
  t.deepEqual(
    (await bitmapsByQemu(copy)).map(({ flags }) => flags),
    [['auto']],
  );
  await t.notThrowsAsync(run('qemu-img', ['check', copy]));
  const other = await attemptBlockfuse(['convert', '--bitmaps', '-O', 'vmdk', image, `${image}.vmdk`]);
  t.regex(other.stderr, /format "vmdk" keeps no bitmaps/);
  for (const options of ['cluster_size=64k', 'cluster_size=512', 'compat=0.10']) {
    const args = ['measure', '-O', 'qcow2', '-o', options, image];
    const measured = async (output: Promise<{ stdout: string }>): Promise<unknown> =>
      (JSON.parse((await output).stdout) as { bitmaps?: number }).bitmaps;
    const [ours, theirs] = [blockfuse([...args, '--json']), run('qemu-img', [...args, '--output=json'])];
    t.is(await measured(ours), await measured(theirs), options);
  }
});
