import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { qedDriver } from '../../drivers/format/qed/driver.ts';
import { Random, seed } from '../helpers/random.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  createImage,
  graphWith,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  release,
  survivesMutations,
} from './small-image.ts';

const SIZE = 24 * MIB + 512 * 5;
const NEED_CHECK = 2;

for (const [title, options] of [
  ['64 KiB clusters', 'cluster_size=65536'],
  ['4 KiB clusters', 'cluster_size=4096,table_size=16'],
] as const) {
  test(`qed: reads what qemu-img wrote, ${title}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.qed');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qed', '-o', options, raw, path]);
    const child = await holdImage(graphWith(t, qedDriver), path);
    t.is(child.node.driver.name, 'qed');
    t.is(difference(await readAll(child), disk), undefined);
  });
}

for (const [title, options] of [
  ['64 KiB clusters', {}],
  ['4 KiB clusters, small tables', { cluster_size: 4096, table_size: 2 }],
  ['1 MiB clusters', { cluster_size: MIB, table_size: 2 }],
] as const) {
  test(`qed: an image created and written here is what qemu-img reads, and clean: ${title}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const path = join(folder, 'a.qed');
    const graph = graphWith(t, qedDriver);
    await createImage(graph, qedDriver, path, { size: SIZE, options });
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(21));
    for (let round = 0; round < 2; round += 1) {
      const child = await holdImage(graph, path, 'qed', false);
      const disk = childDisk(child, random);
      await exercise(disk, model, {
        random,
        operations: 300,
        concurrency: 6,
        maxLength: 300_000,
        borders: [4096, 65536],
      });
      await verify(disk, model);
      await release(graph, child);
    }
    const back = join(folder, 'back.raw');
    await run('qemu-img', ['check', '-f', 'qed', path]);
    await run('qemu-img', ['convert', '-f', 'qed', '-O', 'raw', path, back]);
    t.is(difference(await readFile(back), model.bytes), undefined);
  });
}

test('qed: a backing file is seen through, zeroed clusters are not', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const model = new ModelDisk(SIZE);
  mixedDisk(2, SIZE).copy(model.bytes);
  await rawFile(folder, 'base.raw', model.bytes);
  const path = join(folder, 'top.qed');
  const graph = graphWith(t, qedDriver);
  await createImage(graph, qedDriver, path, {
    size: SIZE,
    options: { backing_file: 'base.raw', backing_fmt: 'raw' },
  });
  const random = new Random(seed(22));
  const child = await holdImage(graph, path, 'qed', false);
  const disk = childDisk(child, random);
  await exercise(disk, model, {
    random,
    operations: 300,
    concurrency: 4,
    maxLength: 400_000,
    borders: [65536],
  });
  await verify(disk, model);
  await release(graph, child);
  await run('qemu-img', ['check', '-f', 'qed', path]);
  await run('qemu-img', ['convert', '-f', 'qed', '-O', 'raw', path, join(folder, 'back.raw')]);
  t.is(difference(await readFile(join(folder, 'back.raw')), model.bytes), undefined);
});

test('qed: an image that was not closed is marked, checked and repaired when it is opened for writing', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const path = join(folder, 'a.qed');
  const graph = graphWith(t, qedDriver);
  await createImage(graph, qedDriver, path, { size: 64 * MIB });
  const child = await holdImage(graph, path, 'qed', false);
  await child.write(Buffer.alloc(65536, 7), 65536);
  await child.flush();
  const crashed = await readFile(path);
  await release(graph, child);
  t.is((await readFile(path))[16], 0, 'clean after close');
  t.is(crashed[16], NEED_CHECK);
  const l2 = Number(crashed.readBigUInt64LE(65536));
  crashed.writeBigUInt64LE(12345n, l2 + 16);
  await writeFile(path, crashed);
  const again = await holdImage(graph, path, 'qed', false);
  t.deepEqual((await readAll(again)).subarray(65536, 65546), Buffer.alloc(10, 7));
  await release(graph, again);
  t.is((await readFile(path))[16], 0);
  t.true((await stat(path)).size < 40 * MIB);
  const { stdout } = await run('qemu-img', ['check', '-f', 'qed', '--output=json', path]).catch(
    (error: unknown) => ({ stdout: String(error) }),
  );
  t.notRegex(stdout, /corruptions|leaks/);
});

test('qed: clusters at the end that nothing uses are cut off by a check', async (t) => {
  const path = join(await tempDir(t), 'a.qed');
  const graph = graphWith(t, qedDriver);
  await createImage(graph, qedDriver, path, { size: 64 * MIB });
  const good = await readFile(path);
  await writeFile(path, Buffer.concat([good, Buffer.alloc(3 * 65536)]));
  for (const [repair, leaks, leaksFixed] of [
    ['none', 3, 0],
    ['leaks', 0, 3],
    ['all', 0, 0],
  ] as const) {
    const child = await holdImage(graph, path, 'qed', false);
    const found = await qedDriver.check?.(child.node.impl, { repair });
    t.like(found, { leaks, leaksFixed, corruptions: 0, imageEndOffset: good.length });
    await release(graph, child);
  }
  t.true(good.equals(await readFile(path)));
});

test('qed: grows, and the new bytes are zeroes', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const path = join(folder, 'a.qed');
  const graph = graphWith(t, qedDriver);
  await createImage(graph, qedDriver, path, { size: 65536 + 512 });
  const child = await holdImage(graph, path, 'qed', false);
  await child.write(Buffer.alloc(65536 + 512, 9), 0);
  await child.resize(4 * MIB);
  const expected = Buffer.alloc(4 * MIB);
  expected.fill(9, 0, 65536 + 512);
  t.is(difference(await readAll(child), expected), undefined);
  await release(graph, child);
  await run('qemu-img', ['check', '-f', 'qed', path]);
});

test.serial('qed: damaged images are refused or served', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const raw = await rawFile(folder, 'base.raw', mixedDisk(3, MIB));
  const path = join(folder, 'a.qed');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qed', raw, path]);
  await survivesMutations(t, graphWith(t, qedDriver), {
    driver: 'qed',
    seed: seed(23),
    path,
    tables: [
      [0, 64],
      [65536, 65544],
      [327680, 327680 + 128],
    ],
    writable: true,
  });
});
