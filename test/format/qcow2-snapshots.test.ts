/** Internal snapshots: taken, applied, deleted and read between and during random work, with a model and qemu-img as judges. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { Graph } from '../../src/block/graph.ts';
import { changeSnapshots, snapshotsOf } from '../../src/block/internal-snapshots.ts';
import type { Node } from '../../src/block/node.ts';
import { Permission } from '../../src/block/permissions.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;

interface Case {
  readonly options: string;
  readonly cluster: number;
  readonly size: number;
  readonly backing?: boolean;
  readonly compressed?: boolean;
  /** The disk changes its size between snapshots. */
  readonly resizes?: boolean;
  readonly node?: Readonly<Record<string, unknown>>;
}

async function makeImage(folder: string, spec: Case, model: ModelDisk, random: Random): Promise<string> {
  const image = join(folder, 'image.qcow2');
  const raw = join(folder, 'start.raw');
  if (spec.compressed === true || spec.backing === true) {
    random.softBytes(spec.size).copy(model.bytes);
    await writeFile(raw, model.bytes);
  }
  if (spec.compressed === true) {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', spec.options, raw, image]);
    return image;
  }
  const below = spec.backing === true ? ['-b', raw, '-F', 'raw'] : [];
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', spec.options, ...below, image, `${spec.size}`]);
  return image;
}

interface Opened {
  readonly graph: Graph;
  readonly node: Node;
  readonly root: Child;
}

async function open(t: ExecutionContext, image: string, options = {}): Promise<Opened> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', { discard: 'unmap', ...options });
  return { graph, node, root: graph.attachRoot(node, { name: 'test', used: 15 }) };
}

interface View {
  readonly name: string;
  readonly child: Child;
}

/** What the snapshots of an image must hold, and the ways they come and go. */
class Story {
  readonly models = new Map<string, ModelDisk>();
  readonly views: View[] = [];
  private readonly opened: Opened;
  private readonly random: Random;
  private count = 0;
  live: ModelDisk;

  constructor(opened: Opened, live: ModelDisk, random: Random) {
    this.opened = opened;
    this.live = live;
    this.random = random;
  }

  async step(): Promise<void> {
    const names = [...this.models.keys()];
    const way = this.random.below(10);
    if (names.length === 0 || (way < 4 && names.length < 8)) await this.create();
    else if (way < 6) await this.apply(this.random.pick(names));
    else if (way < 8) await this.openView(this.random.pick(names));
    else await this.delete(this.random.pick(names));
  }

  async create(): Promise<void> {
    this.count += 1;
    const name = `snapshot ${this.count}`;
    await this.change((snapshots) => snapshots.create(name));
    this.models.set(name, this.live.clone());
  }

  async apply(name: string): Promise<void> {
    await this.change((snapshots) => snapshots.apply(name));
    const model = this.models.get(name);
    if (model === undefined) throw new Error(name);
    this.live.bytes = Buffer.from(model.bytes);
  }

  async delete(name: string): Promise<void> {
    for (const view of this.views.filter((other) => other.name === name)) await this.closeView(view);
    await this.change((snapshots) => snapshots.delete(name));
    this.models.delete(name);
  }

  async openView(name: string): Promise<void> {
    if (this.views.length > 3) await this.closeView(this.random.pick(this.views));
    const { graph, node } = this.opened;
    const view = await graph.open({ driver: 'snapshot-access', file: node.name, snapshot: name });
    const child = graph.attachRoot(view, { name, used: Permission.consistentRead });
    this.views.push({ name, child });
  }

  async closeView(view: View): Promise<void> {
    this.views.splice(this.views.indexOf(view), 1);
    const { name } = view.child.node;
    await this.opened.graph.detach(view.child);
    await this.opened.graph.remove(name);
  }

  /** Views read what their snapshots hold, on both paths, until told to stop. */
  async readViews(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      if (this.views.length > 0) await this.readSome(this.random.pick(this.views));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  private async readSome({ name, child }: View): Promise<void> {
    const model = this.models.get(name) ?? new ModelDisk(0);
    const length = Math.min(model.size, this.random.between(1, 100_000));
    const offset = this.random.below(model.size - length + 1);
    const bytes = Buffer.alloc(length, 0xdb);
    if (!child.tryRead(bytes, 0, length, offset)) await child.read(bytes, offset);
    const wrong = difference(bytes, model.read(offset, length), offset);
    if (wrong !== undefined) throw new Error(`view of "${name}": ${wrong}`);
  }

  private change(run: Parameters<typeof changeSnapshots<unknown>>[2]): Promise<unknown> {
    return changeSnapshots(this.opened.graph, this.opened.node, run);
  }
}

async function qemuAgrees(t: ExecutionContext, image: string, story: Story, folder: string): Promise<void> {
  const check = await attempt('qemu-img', ['check', image]);
  t.is(check.code, 0, check.stdout + check.stderr);
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as {
    snapshots?: { name: string }[];
  };
  t.deepEqual(
    (info.snapshots ?? []).map(({ name }) => name),
    [...story.models.keys()],
  );
  const out = join(folder, 'out.raw');
  for (const [name, model] of story.models) {
    await run('qemu-img', ['convert', '-l', `snapshot.name=${name}`, '-O', 'raw', image, out]);
    // qemu-img gives every snapshot the size of the disk as it is.
    const common = Math.min(model.size, story.live.size);
    const actual = (await readFile(out)).subarray(0, common);
    t.is(difference(actual, model.bytes.subarray(0, common)), undefined, name);
  }
  await run('qemu-img', ['convert', '-O', 'raw', image, out]);
  t.is(difference(await readFile(out), story.live.bytes), undefined);
}

const differential = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = seed(spec.size + spec.cluster);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const random = new Random(start);
  const folder = await tempDir(t);
  const model = new ModelDisk(spec.size);
  const image = await makeImage(folder, spec, model, random);
  const opened = await open(t, image, spec.node);
  const story = new Story(opened, model, random);
  const disk = childDisk(opened.root, random);
  for (let round = 0; round < rounds(12, 80); round += 1) {
    let over = false;
    const reading = story.readViews(() => over);
    const work = { random, operations: 40, concurrency: 6, maxLength: Math.min(model.size, 100_000) };
    await exercise(disk, story.live, { ...work, borders: [spec.cluster, 4096] });
    over = true;
    await reading;
    if (spec.resizes === true && random.chance(0.3)) {
      const size = random.between(1, spec.size / 512) * 512;
      await opened.root.resize(size, true);
      story.live.resize(size);
    }
    await story.step();
    t.is(opened.root.size, story.live.size);
    await verify(disk, story.live);
  }
  for (const { name, child } of story.views) {
    await verify(child, story.models.get(name) ?? new ModelDisk(0));
  }
  await opened.graph.close();
  await qemuAgrees(t, image, story, folder);
});

test.serial('64k clusters', differential, { options: 'cluster_size=64k', cluster: 65536, size: 6 * MIB });
test.serial('64k clusters, changing size', differential, {
  options: 'cluster_size=64k',
  cluster: 65536,
  size: 6 * MIB,
  resizes: true,
});
test.serial('512-byte clusters, 64-bit refcounts, changing size', differential, {
  options: 'cluster_size=512,refcount_bits=64',
  cluster: 512,
  size: 2 * MIB,
  resizes: true,
  node: { 'l2-cache-size': 4096, 'refcount-cache-size': 4096, 'l2-cache-entry-size': 512 },
});
test.serial('2M clusters', differential, { options: 'cluster_size=2M', cluster: 2 * MIB, size: 9 * MIB });
test.serial('4k clusters, version 2, compressed', differential, {
  options: 'cluster_size=4k,compat=0.10',
  cluster: 4096,
  size: 3 * MIB,
  compressed: true,
});
test.serial('4k clusters, 64-bit refcounts, over a backing file', differential, {
  options: 'cluster_size=4k,refcount_bits=64',
  cluster: 4096,
  size: 3 * MIB,
  backing: true,
});
test.serial('extended L2, zstd, over a backing file', differential, {
  options: 'cluster_size=16k,extended_l2=on,compression_type=zstd',
  cluster: 16384,
  size: 4 * MIB,
  backing: true,
});
test.serial('extended L2, compressed', differential, {
  options: 'cluster_size=16k,extended_l2=on',
  cluster: 16384,
  size: 4 * MIB,
  compressed: true,
});
test.serial('lazy refcounts', differential, {
  options: 'cluster_size=64k,lazy_refcounts=on',
  cluster: 65536,
  size: 6 * MIB,
});

test('what can not be done is refused and changes nothing', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const make = async (name: string, options: string): Promise<string> => {
    const image = join(folder, name);
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, '1M']);
    return image;
  };
  const narrow = await open(t, await make('narrow.qcow2', 'refcount_bits=1'));
  await t.throwsAsync(
    changeSnapshots(narrow.graph, narrow.node, (s) => s.create('a')),
    {
      code: 'ENOTSUP',
      message:
        /Cannot create snapshot "a" of image ".*": its refcounts have 1 bit, snapshots need at least 2/,
    },
  );
  const data = await open(t, await make('data.qcow2', `data_file=${join(folder, 'd')},data_file_raw=on`));
  await t.throwsAsync(
    changeSnapshots(data.graph, data.node, (s) => s.create('a')),
    {
      code: 'ENOTSUP',
      message: /external data file can not have internal snapshots/,
    },
  );
  const { graph, node, root } = await open(t, await make('two.qcow2', 'refcount_bits=2'));
  await root.write(Buffer.alloc(100_000, 'content'), 0);
  const take = (name: string) => changeSnapshots(graph, node, (snapshots) => snapshots.create(name));
  await take('a');
  await take('b');
  await t.throwsAsync(take('c'), {
    code: 'EOVERFLOW',
    message: /has 3 users already, the most that refcounts of 2 bits count/,
  });
  await t.throwsAsync(take('a'), { code: 'EEXIST', message: /a snapshot of that name exists/ });
  await t.throwsAsync(take('2'), { code: 'EEXIST', message: /that is the id of "b"/ });
  await t.throwsAsync(take(''), { code: 'EINVAL', message: /the name has 0 bytes/ });
  await t.throwsAsync(take('x'.repeat(256)), { code: 'EINVAL', message: /has 256 bytes/ });
  const change = (run: 'apply' | 'delete') => changeSnapshots(graph, node, (s) => s[run]('nope'));
  await t.throwsAsync(change('apply'), { code: 'ENOENT', message: /it has "a", "b"/ });
  await t.throwsAsync(change('delete'), { code: 'ENOENT' });
  await graph.open({ driver: 'snapshot-access', 'node-name': 'reader', file: node.name, snapshot: 'a' });
  await t.throwsAsync(
    changeSnapshots(graph, node, (snapshots) => snapshots.delete('a')),
    { code: 'EBUSY', message: /Cannot delete snapshot "a" of image ".*": node "reader" reads it/ },
  );
  t.deepEqual(
    snapshotsOf(node)
      .list()
      .map(({ id, name }) => `${id} ${name}`),
    ['1 a', '2 b'],
  );
  await graph.close();
  t.is((await attempt('qemu-img', ['check', node.filename])).code, 0);
});

test('vm state, extra data and ids that QEMU made are kept', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '2M']);
  for (const name of ['one', 'two', 'three']) {
    await run('qemu-io', ['-c', `write -P 0x${name.length} 0 1M`, image]);
    await run('qemu-img', ['snapshot', '-c', name, image]);
  }
  await run('qemu-img', ['snapshot', '-d', 'two', image]);
  const listed = async () => (await run('qemu-img', ['snapshot', '-l', image])).stdout;
  const before = await listed();
  const { graph, node } = await open(t, image);
  const made = await changeSnapshots(graph, node, (snapshots) => snapshots.create('fünf'));
  t.is(made.id, '4');
  await changeSnapshots(graph, node, (snapshots) => snapshots.apply('1'));
  await graph.close();
  const after = await listed();
  t.true(after.startsWith(before.trimEnd()), `${before}\n${after}`);
  t.regex(after, /^4 +fünf/m);
  t.is((await attempt('qemu-img', ['check', image])).code, 0);
  await run('qemu-io', ['-c', 'read -P 0x3 0 1M', image]);
});

test('the state that a virtual machine saved is kept: QEMU goes on from it', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-system-x86_64')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '2M']);
  await run('qemu-io', ['-c', 'write -P 7 0 1M', image]);
  const drive = ['-drive', `file=${image},if=virtio,format=qcow2`];
  const machine = ['-accel', 'tcg', '-m', '16', '-nodefaults', '-display', 'none', '-S', '-monitor', 'stdio'];
  const monitor = async (command: string): Promise<string> =>
    (await run('qemu-system-x86_64', [...machine, ...drive], { input: `${command}\nquit\n` })).stdout;
  await monitor('savevm machine');
  await run('qemu-io', ['-c', 'write -P 8 0 1M', image]);
  const { graph, node } = await open(t, image);
  const state = snapshotsOf(node).list()[0]?.vmStateSize ?? 0;
  t.true(state > 1000);
  await changeSnapshots(graph, node, (snapshots) => snapshots.create('other'));
  await changeSnapshots(graph, node, (snapshots) => snapshots.apply('machine'));
  await changeSnapshots(graph, node, (snapshots) => snapshots.delete('other'));
  await graph.close();
  t.is((await attempt('qemu-img', ['check', image])).code, 0);
  await run('qemu-io', ['-c', 'read -P 7 0 1M', image]);
  t.notRegex(await monitor('loadvm machine'), /Error/);
  t.regex(await monitor('loadvm none'), /Error/);
});

test('a node at a snapshot', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '2M']);
  const { graph, node, root } = await open(t, image);
  await root.write(Buffer.alloc(MIB, 'then'), 0);
  await changeSnapshots(graph, node, (snapshots) => snapshots.create('then'));
  await root.write(Buffer.alloc(MIB, 'now!'), 0);
  await graph.close();
  const again = new Graph({ drivers: DRIVERS });
  t.teardown(() => again.close());
  const old = await again.openImage(image, 'qcow2', { snapshot: 'then', 'auto-read-only': true });
  t.true(old.readOnly);
  const child = again.attachRoot(old, { name: 'test', used: 1 });
  const bytes = Buffer.alloc(2 * MIB);
  await child.read(bytes, 0);
  t.true(bytes.equals(Buffer.concat([Buffer.alloc(MIB, 'then'), Buffer.alloc(MIB)])));
  const later = { snapshot: 'later', 'read-only': true };
  await again.close();
  await t.throwsAsync(again.openImage(image, 'qcow2', later), {
    code: 'ENOENT',
    message: /no snapshot of that id or name, it has "then"/,
  });
});
