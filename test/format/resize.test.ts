/** Disks that grow beyond what their tables have room for, and shrink: judged by qemu-img, and cut off at every step. */
import { open as openFile, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { Graph } from '../../src/block/graph.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { ResizableDisk, recordedDriver, Recorder } from './recorded-disk.ts';
import { hold, MIB, mixedDisk, rawFile, release } from './small-image.ts';

const SIZE = 3 * MIB + 1536;
const GIB = 1024 * MIB;

interface Shape {
  readonly title: string;
  readonly format: string;
  /** -o of qemu-img convert. */
  readonly create?: string;
  /** A size that the tables of the new image have no room for. */
  readonly far: number;
  readonly shrinks: boolean;
  readonly check: boolean;
}

const SHAPES: readonly Shape[] = [
  { title: 'vdi', format: 'vdi', far: 200 * MIB, shrinks: true, check: true },
  { title: 'vdi fixed', format: 'vdi', create: 'static=on', far: 200 * MIB, shrinks: false, check: true },
  { title: 'vpc', format: 'vpc', create: 'force_size=on', far: 700 * MIB, shrinks: true, check: false },
  { title: 'vpc by geometry', format: 'vpc', far: 700 * MIB, shrinks: true, check: false },
  {
    title: 'vpc fixed',
    format: 'vpc',
    create: 'subformat=fixed,force_size=on',
    far: 700 * MIB,
    shrinks: true,
    check: false,
  },
  { title: 'vhdx', format: 'vhdx', create: 'block_size=1M', far: 150 * GIB, shrinks: true, check: true },
  { title: 'vmdk', format: 'vmdk', far: 5 * GIB, shrinks: false, check: true },
  {
    title: 'vmdk flat',
    format: 'vmdk',
    create: 'subformat=monolithicFlat',
    far: 5 * GIB,
    shrinks: true,
    check: true,
  },
  {
    title: 'vmdk twoGb',
    format: 'vmdk',
    create: 'subformat=twoGbMaxExtentSparse',
    far: GIB,
    shrinks: false,
    check: true,
  },
  { title: 'qcow', format: 'qcow', far: 100 * MIB, shrinks: false, check: false },
  { title: 'qed', format: 'qed', far: 5 * GIB, shrinks: false, check: true },
  {
    title: 'parallels',
    format: 'parallels',
    create: 'cluster_size=64k',
    far: 1200 * MIB,
    shrinks: false,
    check: true,
  },
];

async function make(folder: string, shape: Shape, disk: Buffer): Promise<string> {
  const raw = await rawFile(folder, 'content.raw', disk);
  const path = join(folder, `disk.${shape.format}`);
  const options = shape.create === undefined ? [] : ['-o', shape.create];
  await run('qemu-img', ['convert', '-f', 'raw', '-O', shape.format, ...options, raw, path]);
  return path;
}

async function judge(t: ExecutionContext, shape: Shape, path: string, flat: string): Promise<void> {
  if (shape.check) await run('qemu-img', ['check', '-f', shape.format, path]);
  // qemu-img reads every byte of some formats, far ones take it too long.
  const size = (await stat(flat)).size;
  const part = 8 * MIB;
  const last = Math.floor((size - 1) / part);
  for (const index of new Set([0, Math.floor(size / 2 / part), last])) {
    const args = [`if=${path}`, `of=${path}.part`, `bs=${part}`, `skip=${index}`, `count=${index + 1}`];
    await run('qemu-img', ['dd', '-f', shape.format, '-O', 'raw', ...args]);
    const wanted = Buffer.alloc(Math.min(part, size - index * part));
    await readAt(flat, wanted, index * part);
    t.is(difference(await readFile(`${path}.part`), wanted), undefined);
  }
  const info = JSON.parse(
    (await run('qemu-img', ['info', '--output=json', '-f', shape.format, path])).stdout,
  );
  const own = JSON.parse((await blockfuse(['info', '--json', '-f', shape.format, path])).stdout);
  t.is(own['virtual-size'], info['virtual-size']);
}

const open = (graph: Graph, shape: Shape, path: string): Promise<Child> =>
  hold(graph, { driver: shape.format, discard: 'unmap', file: { driver: 'file', filename: path } });

for (const shape of SHAPES) {
  test(`${shape.title}: grows far and shrinks, as qemu-img sees it`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const path = await make(folder, shape, mixedDisk(seed(71), SIZE));
    const graph = new Graph({ drivers: DRIVERS });
    t.teardown(() => graph.close());
    let disk = await open(graph, shape, path);
    // What is behind the end, in the last block, is not to come up.
    const flat = join(folder, 'flat.raw');
    const content = Buffer.alloc(disk.size);
    await disk.read(content, 0);
    await writeFile(flat, content);
    await disk.resize(disk.size + MIB);
    await disk.resize(shape.far);
    await truncate(flat, shape.far);
    const random = new Random(seed(72));
    for (const offset of [0, SIZE - 5000, 2 * MIB, shape.far / 2, shape.far - 4096]) {
      const bytes = random.bytes(4096);
      await disk.write(bytes, offset);
      await patch(flat, bytes, offset);
    }
    await disk.flush();
    await release(graph, disk);
    await judge(t, shape, path, flat);
    disk = await open(graph, shape, path);
    await disk.resize(shape.far + 512);
    await truncate(flat, shape.far + 512);
    if (shape.shrinks) {
      await disk.resize(2 * MIB + 1024, true);
      await truncate(flat, 2 * MIB + 1024);
      await disk.resize(8 * MIB);
      await truncate(flat, 8 * MIB);
    } else {
      await t.throwsAsync(disk.resize(MIB, true), { message: /shrink/ });
    }
    await release(graph, disk);
    await judge(t, shape, path, flat);
  });
}

async function readAt(file: string, bytes: Buffer, offset: number): Promise<void> {
  const handle = await openFile(file, 'r');
  await handle.read(bytes, 0, bytes.length, offset);
  await handle.close();
}

async function patch(file: string, bytes: Buffer, offset: number): Promise<void> {
  const handle = await openFile(file, 'r+');
  await handle.write(bytes, 0, bytes.length, offset);
  await handle.close();
}

const SINGLE = SHAPES.filter(
  ({ title }) => !['vdi fixed', 'vmdk flat', 'vmdk twoGb', 'vpc fixed'].includes(title),
);

for (const shape of SINGLE) {
  test(`${shape.title}: growing survives power cuts`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const path = await make(folder, shape, mixedDisk(seed(73), SIZE));
    for (let round = 0; round < rounds(1, 20); round += 1) {
      const random = new Random(seed(74) + round);
      const recorder = new Recorder();
      const file = new ResizableDisk(recorder, await readFile(path), random);
      const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
      t.teardown(() => graph.close());
      const disk = await hold(graph, {
        driver: shape.format,
        file: { driver: 'recorded-image', 'node-name': 'file' },
      });
      const old = disk.size;
      const content = Buffer.alloc(old);
      random.bytes(5000).copy(content);
      await disk.write(content.subarray(0, 5000), 0);
      await disk.flush();
      await disk.read(content, 0);
      const from = recorder.events.length;
      await disk.resize(shape.far);
      await disk.flush();
      const until = recorder.events.length;
      await graph.close();
      const total = recorder.events.length;
      const ends = Array.from({ length: 12 }, () => random.between(from, random.chance(0.8) ? until : total));
      for (const end of ends) {
        const cut = await rawFile(folder, `cut.${shape.format}`, recorder.afterCut(0, end, random));
        await seesOldOrNew(t, shape, cut, { content, acknowledged: end >= until });
      }
    }
  });
}

async function seesOldOrNew(
  t: ExecutionContext,
  shape: Shape,
  path: string,
  was: { content: Buffer; acknowledged: boolean },
): Promise<void> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    for (const readOnly of [true, false]) {
      const disk = await hold(graph, {
        driver: shape.format,
        'read-only': readOnly,
        file: { driver: 'file', filename: path },
      });
      const old = was.content.length;
      t.true(disk.size === shape.far || (disk.size === old && !was.acknowledged), `size ${disk.size}`);
      const bytes = Buffer.alloc(old);
      await disk.read(bytes, 0);
      t.is(difference(bytes, was.content), undefined);
      for (const at of [old, disk.size - MIB]) {
        const found = Buffer.alloc(Math.max(0, Math.min(MIB, disk.size - at)), 0xdb);
        if (disk.size === old || found.length === 0) continue;
        await disk.read(found, at);
        t.true(
          found.every((byte) => byte === 0),
          `new bytes at ${at}`,
        );
      }
      if (!readOnly) await disk.write(Buffer.alloc(512, 7), disk.size - 512);
      await release(graph, disk);
    }
    // Leaks (3) are what a power cut may leave.
    const { code, stdout } = await attempt('qemu-img', ['check', '-f', shape.format, path]);
    if (shape.check) t.true(code === 0 || code === 3, stdout);
  } finally {
    await graph.close();
  }
}

test('blockfuse resize grows every format, and says what it can not do', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  for (const format of ['vdi', 'vpc', 'vhdx', 'vmdk', 'qcow', 'qed', 'parallels']) {
    await blockfuse(['create', '-f', format, `disk.${format}`, '4M'], { cwd });
    await blockfuse(['resize', `disk.${format}`, '+4M'], { cwd });
    const info = JSON.parse(
      (await run('qemu-img', ['info', '--output=json', `disk.${format}`], { cwd })).stdout,
    );
    t.is(info['virtual-size'], 8 * MIB, format);
    const smaller = await attemptBlockfuse(['resize', `disk.${format}`, '1M'], { cwd });
    t.is(smaller.code, 1);
    t.regex(smaller.stderr, /say --shrink/);
  }
  await blockfuse(['create', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentFlat', 'two.vmdk', '1G'], { cwd });
  const outcome = await attemptBlockfuse(['resize', 'two.vmdk', '3G'], { cwd });
  t.regex(outcome.stderr, /"[^"]*two-f001.vmdk" has room for 1072693248 bytes more.*convert the disk/);
});

test('where a disk over a longer parent grows, the parent does not show through', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  await writeFile(join(cwd, 'base.raw'), Buffer.alloc(8 * MIB, 0x42));
  for (const format of ['qed', 'qcow']) {
    const image = `top.${format}`;
    await run('qemu-img', ['create', '-q', '-f', format, '-b', 'base.raw', '-F', 'raw', image, '2M'], {
      cwd,
    });
    await blockfuse(['resize', image, '5M'], { cwd });
    await blockfuse(['convert', '-O', 'raw', image, 'flat.raw'], { cwd });
    const flat = await readFile(join(cwd, 'flat.raw'));
    t.true(
      flat.subarray(0, 2 * MIB).every((byte) => byte === 0x42),
      format,
    );
    t.true(
      flat.subarray(2 * MIB).every((byte) => byte === 0),
      format,
    );
    t.is(flat.length, 5 * MIB);
  }
});
