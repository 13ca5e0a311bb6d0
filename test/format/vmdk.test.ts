import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { StreamWriter } from '../../drivers/format/vmdk/stream-writer.ts';
import { createImage } from '../../src/cli/create-image.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { copySample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  graphWith,
  hold,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  release,
  sha256,
} from './small-image.ts';
import { facts, forWriting, hostedTables, libvmdkAgrees, qemuAgrees, qemuFacts } from './vmdk-fixtures.ts';

const SIZE = 34 * MIB + 512 * 3;

for (const [name, hash, companion] of [
  ['streamOptimized.vmdk', 'a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727', undefined],
  [
    'twoGbMaxExtentSparse.vmdk',
    'a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727',
    'twoGbMaxExtentSparse-s001.vmdk',
  ],
  ['dfvfs-ext2-a.vmdk', 'a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80', undefined],
] as const) {
  test(`vmdk: sample ${name} has its guest hash`, async (t) => {
    const folder = await tempDir(t);
    const path = await copySample(t, name, folder);
    if (
      path === undefined ||
      (companion !== undefined && (await copySample(t, companion, folder)) === undefined)
    )
      return;
    const child = await holdImage(graphWith(t, vmdkDriver), path);
    t.is(child.node.driver.name, 'vmdk');
    t.is(sha256(await readAll(child)), hash);
  });
}

for (const subformat of [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'vmfs',
] as const) {
  test(`vmdk: ${subformat} created and written here is what qemu-img and libvmdk read, and clean`, async (t) => {
    if (!canRun(t, 'qemu-img', 'vmdkmount', 'fusermount3')) return;
    const path = join(await tempDir(t), 'disk.vmdk');
    const graph = graphWith(t, vmdkDriver);
    await createImage(graph, { filename: path, format: 'vmdk', size: SIZE, options: { subformat } });
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(31));
    for (let round = 0; round < rounds(1, 20); round += 1) {
      const child = await hold(graph, forWriting(path));
      const options = {
        random,
        operations: 150,
        concurrency: 6,
        maxLength: 300_000,
        borders: [65_536, 32 * MIB],
      };
      await exercise(childDisk(child, random), model, options);
      await verify(child, model);
      await release(graph, child);
      await qemuAgrees(path, model.bytes);
    }
    // libvmdk mounts no monolithicFlat, whoever made it.
    if (subformat !== 'monolithicFlat') await libvmdkAgrees(path, model.bytes);
    const ours = await facts(graph, path);
    const theirs = await qemuFacts(path);
    t.is(ours['create-type'], subformat);
    for (const key of ['cid', 'parent-cid', 'create-type']) t.is(ours[key], theirs[key], key);
    if (subformat === 'monolithicSparse') return;
    t.deepEqual(ours['extents'], theirs['extents']);
  });
}

test('vmdk: disks of several extents are written across their borders', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const border = 4192256 * 512;
  for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
    const path = join(await tempDir(t), 'disk.vmdk');
    const graph = graphWith(t, vmdkDriver);
    await createImage(graph, {
      filename: path,
      format: 'vmdk',
      size: 5 * 1024 * MIB,
      options: { subformat },
    });
    const child = await hold(graph, forWriting(path));
    await child.write(Buffer.alloc(300_000, 0x41), border - 150_000);
    await child.write(Buffer.alloc(3, 0x42), 2 * border - 1);
    const bytes = Buffer.alloc(300_002);
    await child.read(bytes, border - 150_001);
    t.true(bytes.equals(Buffer.concat([Buffer.alloc(1), Buffer.alloc(300_000, 0x41), Buffer.alloc(1)])));
    await release(graph, child);
    const reads = [
      `read -P 0x41 ${border - 150_000} 300000`,
      `read -P 0 ${border + 150_000} 65536`,
      `read -P 0x42 ${2 * border - 1} 3`,
    ];
    const { stdout } = await run('qemu-io', [
      '-r',
      '-f',
      'vmdk',
      ...reads.flatMap((read) => ['-c', read]),
      path,
    ]);
    t.notRegex(stdout, /failed/i);
    t.is(((await facts(graph, path))['extents'] as unknown[]).length, 3);
  }
});

test('vmdk: a stream that was written here is read by qemu-img and here, directory at the end', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const path = join(folder, 'disk.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, {
    filename: path,
    format: 'vmdk',
    size: SIZE,
    options: { subformat: 'streamOptimized' },
  });
  await qemuAgrees(path, Buffer.alloc(SIZE));
  const text = (await readFile(path)).subarray(512, 512 + 20 * 512);
  const disk = mixedDisk(5, SIZE);
  const file = await hold(graph, { driver: 'file', filename: path });
  await file.resize(0, true);
  const writer = new StreamWriter(file, SIZE / 512);
  await writer.begin(text);
  for (let at = 0; at < SIZE; at += 8 * MIB)
    await writer.append(at / 65_536, disk.subarray(at, at + 8 * MIB));
  await t.throwsAsync(writer.append(3, disk.subarray(0, 65_536)), { message: /must come behind/ });
  await writer.finish();
  await release(graph, file);
  t.is((await readFile(path)).readBigUInt64LE(56), 2n ** 64n - 1n, 'the header sends to the footer');
  await qemuAgrees(path, disk);
  if (canRun(t, 'vmdkmount', 'fusermount3')) await libvmdkAgrees(path, disk);
  const child = await holdImage(graph, path);
  t.is(difference(await readAll(child, 65_536), disk), undefined);
  t.is(difference(await readAll(child, 1_000_003), disk), undefined);
  await release(graph, child);
  const open = hold(graph, { driver: 'vmdk', 'read-only': false, file: { driver: 'file', filename: path } });
  await t.throwsAsync(open, {
    code: 'EROFS',
    message: /for writing: extent ".*" is streamOptimized.*read-only=on/,
  });
  const flexible = await hold(graph, { ...forWriting(path), 'auto-read-only': true });
  t.true(flexible.node.readOnly);
  await release(graph, flexible);
});

test('vmdk: what bximage wrote is read, and written so that it and libvmdk still read it', async (t) => {
  if (!canRun(t, 'bximage', 'vmdkinfo', 'qemu-img')) return;
  const folder = await tempDir(t);
  const disk = mixedDisk(6, 16 * MIB);
  const raw = await rawFile(folder, 'base.raw', disk);
  const path = join(folder, 'bx.vmdk');
  await run('bximage', ['-q', '-func=convert', '-imgmode=vmware4', raw, path]);
  const graph = graphWith(t, vmdkDriver);
  const child = await hold(graph, forWriting(path));
  t.is(child.size, disk.length);
  t.is(difference(await readAll(child), disk), undefined);
  disk.fill(0x77, 5_000_000, 6_000_000);
  await child.write(disk.subarray(5_000_000, 6_000_000), 5_000_000);
  await release(graph, child);
  const back = join(folder, 'back.raw');
  await run('bximage', ['-q', '-func=convert', '-imgmode=flat', path, back]);
  t.is(difference(await readFile(back), disk), undefined);
  await qemuAgrees(path, disk);
  t.regex((await run('vmdkinfo', [path])).stdout, /Media size:\s+16 MiB/);
});

test('vmdk: both grain directories are kept in step, the mark of use comes and goes', async (t) => {
  const path = join(await tempDir(t), 'disk.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: path, format: 'vmdk', size: SIZE, options: {} });
  const child = await hold(graph, forWriting(path));
  const random = new Random(seed(33));
  for (let count = 0; count < 60; count += 1)
    await child.write(random.bytes(512), 512 * random.below(SIZE / 512));
  await child.flush();
  const running = await readFile(path);
  t.is(running[72], 1, 'open for writing');
  t.deepEqual(hostedTables(running, 'primary'), hostedTables(running, 'redundant'));
  t.true(hostedTables(running, 'primary').filter((entry) => entry !== 0).length > 30);
  await release(graph, child);
  const closed = await readFile(path);
  t.is(closed[72], 0, 'closed');
  t.deepEqual(hostedTables(closed, 'primary'), hostedTables(closed, 'redundant'));
  const grains = hostedTables(closed, 'primary').filter((entry) => entry !== 0);
  t.is(closed.length, (Math.max(...grains) + 128) * 512, 'nothing behind the last grain');
});

test('vmdk: discarded grains are used again, and only when no table on disk names them', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'disk.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: path, format: 'vmdk', size: SIZE, options: {} });
  const child = await hold(graph, forWriting(path));
  await child.write(Buffer.alloc(12 * MIB, 1), 0);
  await child.flush();
  await child.discard(0, 12 * MIB);
  const status = new BlockStatus();
  await child.status(0, SIZE, status);
  t.true(status.zero);
  t.is(status.length, 32 * MIB);
  await child.flush();
  await child.write(Buffer.alloc(12 * MIB, 2), 20 * MIB);
  const expected = Buffer.alloc(SIZE);
  expected.fill(2, 20 * MIB, 32 * MIB);
  t.is(difference(await readAll(child), expected), undefined);
  await release(graph, child);
  t.true((await stat(path)).size < 13 * MIB, 'the room was used again');
  await qemuAgrees(path, expected);
});

test('vmdk: many requests wait for one first write', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'disk.vmdk');
  await run('qemu-img', ['create', '-q', '-f', 'vmdk', path, '64M']);
  const child: Child = await hold(graphWith(t, vmdkDriver), forWriting(path));
  const pieces = Array.from({ length: 64 }, (_, index) => Buffer.alloc(70_000, index + 1));
  await Promise.all(pieces.map((piece, index) => child.write(piece, index * MIB + 12_345)));
  const bytes = Buffer.alloc(70_000);
  for (const [index, piece] of pieces.entries()) {
    await child.read(bytes, index * MIB + 12_345);
    t.true(bytes.equals(piece));
  }
  const checked = await attempt('qemu-img', ['check', '-U', '-f', 'vmdk', path]);
  t.is(checked.code, 0, checked.stderr);
});
