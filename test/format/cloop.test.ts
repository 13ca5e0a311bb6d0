import { join } from 'node:path';
import test from 'ava';
import { cloopDriver } from '../../drivers/format/cloop.ts';
import { difference } from '../helpers/model-disk.ts';
import { seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  graphWith,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  sha256,
  survivesMutations,
} from './small-image.ts';

const SIZE = 6 * MIB;

for (const block of [4096, 65536, MIB]) {
  test(`cloop: reads what create_compressed_fs wrote, blocks of ${block}`, async (t) => {
    if (!canRun(t, 'create_compressed_fs')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.cloop');
    await run('create_compressed_fs', ['-q', '-B', String(block), raw, path]);
    const child = await holdImage(graphWith(t, cloopDriver), path);
    t.is(child.node.driver.name, 'cloop');
    t.is(difference(await readAll(child), disk), undefined);
    t.is(difference(await readAll(child), disk), undefined, 'again, from the cache');
    if (canRun(t, 'qemu-img')) await run('qemu-img', ['compare', '-f', 'raw', '-F', 'cloop', raw, path]);
  });
}

test('cloop: the sample has its guest hash', async (t) => {
  const bytes = sample(t, 'create_compressed_fs.cloop');
  if (bytes === undefined) return;
  const path = await rawFile(await tempDir(t), 'sample.cloop', bytes);
  const child = await holdImage(graphWith(t, cloopDriver), path);
  t.is(sha256(await readAll(child)), '82cfd0548f11d29a87e7d306eba3ebc40297850a26ac7f2008a1f673c9347ff1');
});

test('cloop: another version is refused by name', async (t) => {
  const bytes = Buffer.alloc(4096);
  bytes.write('#!/bin/sh\n#V4.0 Format\nmodprobe cloop file=$0\n');
  const path = await rawFile(await tempDir(t), 'a.cloop', bytes);
  const error = await t.throwsAsync(holdImage(graphWith(t, cloopDriver), path));
  t.regex(error.message, /version is 4.0, must be 2.0/);
});

test.serial('cloop: damaged images are refused or served', async (t) => {
  if (!canRun(t, 'create_compressed_fs')) return;
  const folder = await tempDir(t);
  const raw = await rawFile(folder, 'base.raw', mixedDisk(3, 2 * MIB));
  const path = join(folder, 'a.cloop');
  await run('create_compressed_fs', ['-q', '-B', '65536', raw, path]);
  await survivesMutations(t, graphWith(t, cloopDriver), {
    driver: 'cloop',
    seed: seed(42),
    path,
    tables: [
      [0, 136],
      [136, 136 + 33 * 8],
    ],
    writable: false,
  });
});
