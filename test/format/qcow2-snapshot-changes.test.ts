/** What differs between snapshots, by the tables: all that differs is told, and of what nobody touched nothing. */
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { applySnapshot, changeSnapshots, snapshotsOf } from '../../src/block/internal-snapshots.ts';
import type { Child } from '../../src/block/child.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { rawFile } from './small-image.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;

interface Shape {
  readonly options: string;
  readonly cluster: number;
  readonly size: number;
  readonly compressed?: boolean;
  readonly backing?: boolean;
  readonly node?: Readonly<Record<string, unknown>>;
}

/** A disk at one moment, and the clusters that were touched before it, each with the number of its last touch. */
interface Moment {
  readonly name: string;
  readonly model: ModelDisk;
  readonly touched: ReadonlyMap<number, number>;
  readonly now: number;
}

class Disk {
  readonly model: ModelDisk;
  readonly touched = new Map<number, number>();
  private touches = 0;
  private readonly root: Child;
  private readonly random: Random;
  private readonly cluster: number;

  constructor(root: Child, model: ModelDisk, random: Random, cluster: number) {
    this.root = root;
    this.model = model;
    this.random = random;
    this.cluster = cluster;
  }

  async work(count: number): Promise<void> {
    const { random, root, model } = this;
    for (let done = 0; done < count; done += 1) {
      const offset = random.below(model.size);
      const length = Math.min(model.size - offset, 1 + random.below(3 * this.cluster));
      const way = random.below(4);
      if (way < 2) {
        const bytes = random.bytes(length);
        await root.write(bytes, offset);
        model.write(bytes, offset);
      } else if (way === 2) {
        await root.writeZeroes(offset, length, random.chance(0.5) ? ZeroFlag.mayUnmap : 0);
        model.bytes.fill(0, offset, offset + length);
      } else {
        await root.discard(offset, length);
        await root.read(model.bytes.subarray(offset, offset + length), offset);
      }
      this.touch(offset, length);
    }
  }

  touch(offset: number, length: number): void {
    this.touches += 1;
    const end = Math.ceil((offset + length) / this.cluster);
    for (let at = Math.floor(offset / this.cluster); at < end; at += 1) this.touched.set(at, this.touches);
  }

  moment(name: string): Moment {
    return { name, model: this.model.clone(), touched: new Map(this.touched), now: this.touches };
  }
}

const changes = test.macro(async (t: ExecutionContext, shape: Shape) => {
  if (!canRun(t, 'qemu-img')) return;
  const random = new Random(seed(77));
  const folder = await tempDir(t);
  const model = new ModelDisk(shape.size);
  const image = await make(folder, shape, model, random);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', { discard: 'unmap', ...shape.node });
  const root = graph.attachRoot(node, { name: 'test', used: 15 });
  const disk = new Disk(root, model, random, shape.cluster);
  const moments: Moment[] = [];
  for (let round = 0; round < rounds(5, 20); round += 1) {
    await disk.work(12);
    const name = `s${round}`;
    await changeSnapshots(graph, node, (all) => all.create(name));
    moments.push(disk.moment(name));
  }
  await disk.work(5);
  const live = disk.moment('now');
  let tables = 0;
  for (const [index, since] of moments.entries()) {
    for (const until of [...moments.slice(index + 1), live]) {
      await compare(t, since, until, { cluster: shape.cluster, node });
      tables += 1;
    }
  }
  t.log(`${tables} pairs`);
  const [first] = moments;
  await applySnapshot(graph, node, first?.name ?? '');
  const noted: number[] = [];
  await changeSnapshots(graph, node, (all) =>
    all.noteChanges(first?.name ?? '', undefined, (offset) => noted.push(offset)),
  );
  t.deepEqual(noted, [], 'a disk that is what it was then');
  await graph.close();
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
});

async function make(folder: string, shape: Shape, model: ModelDisk, random: Random): Promise<string> {
  const image = join(folder, 'disk.qcow2');
  const { options, size } = shape;
  if (shape.compressed !== true && shape.backing !== true) {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, image, `${size}`]);
    return image;
  }
  random.softBytes(size).copy(model.bytes);
  const raw = await rawFile(folder, 'start.raw', model.bytes);
  if (shape.compressed === true)
    await run('qemu-img', ['convert', '-q', '-f', 'raw', '-O', 'qcow2', '-c', '-o', options, raw, image]);
  else {
    const below = ['-b', raw, '-F', 'raw'];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, ...below, image, `${size}`]);
  }
  return image;
}

async function compare(
  t: ExecutionContext,
  since: Moment,
  until: Moment,
  { cluster, node }: { cluster: number; node: Parameters<typeof snapshotsOf>[0] },
): Promise<void> {
  const untilName = until.name === 'now' ? undefined : until.name;
  const copy = Buffer.from(since.model.bytes);
  let end = 0;
  await snapshotsOf(node).noteChanges(since.name, untilName, (offset, length) => {
    t.true(offset >= end && length > 0, 'in order');
    end = offset + length;
    until.model.bytes.copy(copy, offset, offset, end);
    for (let at = offset; at < end; at += cluster) {
      const last = until.touched.get(Math.floor(at / cluster)) ?? 0;
      if (last <= since.now) t.fail(`${since.name} to ${until.name}: nobody touched ${at}`);
    }
  });
  t.true(
    copy.equals(until.model.bytes),
    `${since.name} to ${until.name}: what was noted makes one the other`,
  );
}

test('64 KiB clusters', changes, { options: 'cluster_size=64k', cluster: 65536, size: 5 * MIB + 512 });
test('512 byte clusters, many L2 tables', changes, { options: 'cluster_size=512', cluster: 512, size: MIB });
test('subclusters', changes, { options: 'extended_l2=on,cluster_size=64k', cluster: 65536, size: 4 * MIB });
test('version 2', changes, { options: 'compat=0.10', cluster: 65536, size: 4 * MIB });
test('compressed', changes, { options: 'cluster_size=4k', cluster: 4096, size: 2 * MIB, compressed: true });
test('over a backing file', changes, {
  options: 'cluster_size=64k',
  cluster: 65536,
  size: 3 * MIB + 1024,
  backing: true,
});
test('discards that keep their place', changes, {
  options: 'cluster_size=64k',
  cluster: 65536,
  size: 4 * MIB,
  node: { 'discard-no-unref': true },
});

test('a disk of another size: what is longer is told of', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '4M']);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', {});
  const root = graph.attachRoot(node, { name: 'test', used: 15 });
  const noted = async (since: string, until?: string): Promise<[number, number][]> => {
    const found: [number, number][] = [];
    await snapshotsOf(node).noteChanges(since, until, (offset, length) => found.push([offset, length]));
    return found;
  };
  await changeSnapshots(graph, node, (all) => all.create('short'));
  await root.resize(6 * MIB);
  await root.write(Buffer.alloc(512, 1), MIB);
  await changeSnapshots(graph, node, (all) => all.create('long'));
  t.deepEqual(await noted('short', 'long'), [
    [MIB, 65536],
    [4 * MIB, 2 * MIB],
  ]);
  t.deepEqual(await noted('long', 'short'), [[MIB, 65536]]);
  t.deepEqual(await noted('long'), []);
  await t.throwsAsync(noted('other'), { code: 'ENOENT', message: /there is no snapshot of that id or name/ });
  await t.throwsAsync(noted('long', 'other'), { code: 'ENOENT' });
});
