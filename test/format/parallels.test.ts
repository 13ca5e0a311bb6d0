import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { parallelsDriver } from '../../drivers/format/parallels/driver.ts';
import { InUse } from '../../drivers/format/parallels/header.ts';

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
import { versionOne } from './parallels-images.ts';

const SIZE = 24 * MIB + 512 * 5;

for (const [title, options] of [
  ['1 MiB clusters', []],
  ['64 KiB clusters', ['-o', 'cluster_size=64k']],
] as const) {
  test(`parallels: reads what qemu-img wrote, ${title}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.hds');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'parallels', ...options, raw, path]);
    const child = await holdImage(graphWith(t, parallelsDriver), path);
    t.is(child.node.driver.name, 'parallels');
    t.is(difference((await readAll(child)).subarray(0, SIZE), disk), undefined);
  });
}

for (const [title, options] of [
  ['1 MiB clusters', {}],
  ['63 sectors a cluster', { cluster_size: 63 * 512 }],
] as const) {
  test(`parallels: an image created and written here is what qemu-img reads, and clean: ${title}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const path = join(folder, 'a.hds');
    const graph = graphWith(t, parallelsDriver);
    await createImage(graph, parallelsDriver, path, { size: SIZE, options });
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(31));
    for (let round = 0; round < 2; round += 1) {
      const child = await holdImage(graph, path, 'parallels', false);
      const disk = childDisk(child, random);
      await exercise(disk, model, {
        random,
        operations: 250,
        concurrency: 6,
        maxLength: 300_000,
        borders: [32256, MIB],
      });
      await verify(disk, model);
      await release(graph, child);
    }
    const back = join(folder, 'back.raw');
    await run('qemu-img', ['check', '-f', 'parallels', path]);
    await run('qemu-img', ['convert', '-f', 'parallels', '-O', 'raw', path, back]);
    t.is(difference(await readFile(back), model.bytes), undefined);
  });
}

for (const tracks of [63, 504, 2048]) {
  test(`parallels: version 1 with ${tracks} sectors a cluster is read and written`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const model = new ModelDisk(SIZE);
    mixedDisk(4, SIZE).copy(model.bytes);
    const path = await rawFile(folder, 'a.hds', versionOne(model.bytes, tracks));
    const graph = graphWith(t, parallelsDriver);
    const child = await holdImage(graph, path, undefined, false);
    const random = new Random(seed(32));
    const disk = childDisk(child, random);
    await verify(disk, model);
    await exercise(disk, model, {
      random,
      operations: 150,
      concurrency: 4,
      maxLength: 300_000,
      borders: [tracks * 512],
    });
    await release(graph, child);
    const back = join(folder, 'back.raw');
    await run('qemu-img', ['convert', '-f', 'parallels', '-O', 'raw', path, back]);
    t.is(difference(await readFile(back), model.bytes), undefined);
  });
}

test('parallels: an image that was not closed is marked, and checked when it is opened for writing', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, 'a.hds');
  const graph = graphWith(t, parallelsDriver);
  await createImage(graph, parallelsDriver, path, { size: 8 * MIB });
  const child = await holdImage(graph, path, 'parallels', false);
  await child.write(Buffer.alloc(MIB, 7), MIB);
  await child.flush();
  const crashed = await readFile(path);
  await release(graph, child);
  t.is((await readFile(path)).readUInt32LE(44), 0);
  t.is(crashed.readUInt32LE(44), InUse.open);
  crashed.writeUInt32LE(0x7fff, 64 + 5 * 4);
  await writeFile(path, crashed);
  const again = await holdImage(graph, path, 'parallels', false);
  t.deepEqual((await readAll(again)).subarray(MIB, MIB + 10), Buffer.alloc(10, 7));
  await release(graph, again);
  const repaired = await readFile(path);
  t.is(repaired.readUInt32LE(44), 0);
  t.is(repaired.readUInt32LE(64 + 5 * 4), 0);
  t.is(repaired.length, 2 * MIB, 'what was grown ahead is cut off');
  await writeFile(path, Buffer.concat([repaired, Buffer.alloc(2 * MIB)]));
  for (const [repair, leaks, leaksFixed] of [
    ['none', 2, 0],
    ['leaks', 0, 2],
  ] as const) {
    const opened = await holdImage(graph, path, 'parallels', false);
    const found = await parallelsDriver.check?.(opened.node.impl, { repair });
    t.like(found, { leaks, leaksFixed, corruptions: 0, imageEndOffset: 2 * MIB });
    await release(graph, opened);
  }
  t.true(repaired.equals(await readFile(path)));
});

test('parallels: a cluster that two entries name can only be read', async (t) => {
  const folder = await tempDir(t);
  const bytes = versionOne(Buffer.alloc(MIB, 5), 128);
  bytes.copy(bytes, 64, 68, 72);
  bytes.writeUInt32LE(InUse.open, 44);
  const path = await rawFile(folder, 'a.hds', bytes);
  const graph = graphWith(t, parallelsDriver);
  const error = await t.throwsAsync(holdImage(graph, path, 'parallels', false));
  t.regex(error.message, /used twice, it can only be opened read-only/);
  await holdImage(graph, path, 'parallels', true);
});

test('parallels: a format extension is refused by name, for writing', async (t) => {
  const bytes = versionOne(Buffer.alloc(MIB, 5), 128);
  bytes.writeUInt32LE(8, 56);
  const path = await rawFile(await tempDir(t), 'a.hds', bytes);
  const error = await t.throwsAsync(holdImage(graphWith(t, parallelsDriver), path, 'parallels', false));
  t.regex(error.message, /ext_off is 8, a format extension \(dirty bitmaps\) is not supported for writing/);
});

test.serial('parallels: damaged images are refused or served', async (t) => {
  const path = await rawFile(await tempDir(t), 'a.hds', versionOne(mixedDisk(3, MIB), 64));
  await survivesMutations(t, graphWith(t, parallelsDriver), {
    driver: 'parallels',
    seed: seed(33),
    path,
    tables: [
      [0, 64],
      [64, 64 + 64 * 4],
    ],
    writable: true,
  });
});
