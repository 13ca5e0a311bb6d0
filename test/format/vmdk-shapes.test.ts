/** Shapes that no tool here writes: built from the specification, judged by qemu-img and libvmdk where they read them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { createImage } from '../../src/cli/create-image.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { graphWith, hold, holdImage, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';
import { cowd, descriptor, forWriting, qemuAgrees, seSparse, writeDescriptor } from './vmdk-fixtures.ts';

for (const [grainSectors, size] of [
  [1, 5 * MIB],
  [8, 20 * MIB + 512],
  [128, 3 * MIB],
] as const) {
  test(`vmdk: vmfsSparse with grains of ${grainSectors} sectors is read, written, and read by qemu-img`, async (t) => {
    if (!canRun(t, 'qemu-img', 'vmdkinfo')) return;
    const folder = await tempDir(t);
    const model = new ModelDisk(size);
    mixedDisk(11, size).copy(model.bytes);
    const delta = await rawFile(folder, 'vm-delta.vmdk', cowd(model.bytes, { grainSectors, slack: 77 }));
    const line = `RW ${size / 512} VMFSSPARSE "vm-delta.vmdk"`;
    const path = await writeDescriptor(folder, 'vm.vmdk', descriptor('vmfsSparse', [line]));
    await qemuAgrees(path, model.bytes);
    const graph = graphWith(t, vmdkDriver);
    const reading = await holdImage(graph, path);
    t.is(reading.node.driver.name, 'vmdk');
    t.is(difference(await readAll(reading), model.bytes), undefined);
    await release(graph, reading);
    const child = await hold(graph, forWriting(path));
    const random = new Random(seed(41));
    const options = { random, operations: 150, concurrency: 6, maxLength: 150_000, borders: [512, 65_536] };
    await exercise(childDisk(child, random), model, options);
    await verify(child, model);
    await release(graph, child);
    await qemuAgrees(path, model.bytes);
    const after = await readFile(delta);
    t.true(after.readUInt32LE(28) * 512 >= after.length, 'the next free sector is behind all that is used');
    t.is(after.readUInt32LE(1648), 0, 'closed');
    t.regex((await run('vmdkinfo', [path])).stdout, /Disk type:\s+.*VMFS.*sparse/i);
  });
}

test('vmdk: a vmfsSparse snapshot over a flat parent', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const size = 6 * MIB;
  const model = new ModelDisk(size);
  const base = mixedDisk(12, size);
  await rawFile(folder, 'vm-flat.vmdk', base);
  await writeDescriptor(folder, 'vm.vmdk', descriptor('vmfs', [`RW ${size / 512} VMFS "vm-flat.vmdk"`]));
  const changes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 100 * 512) changes.fill(at / 512 || 1, at, at + 512);
  await rawFile(folder, 'vm-000001-delta.vmdk', cowd(changes, { grainSectors: 1 }));
  const path = await writeDescriptor(
    folder,
    'vm-000001.vmdk',
    descriptor(
      'vmfsSparse',
      [`RW ${size / 512} VMFSSPARSE "vm-000001-delta.vmdk"`],
      ['parentCID=12345678', 'parentFileNameHint="vm.vmdk"'],
    ),
  );
  for (let at = 0; at < size; at += 512) {
    const changed = changes.subarray(at, at + 512);
    (changed.some((byte) => byte !== 0) ? changed : base.subarray(at, at + 512)).copy(model.bytes, at);
  }
  await qemuAgrees(path, model.bytes);
  const graph = graphWith(t, vmdkDriver);
  const child = await hold(graph, forWriting(path));
  await verify(child, model);
  const random = new Random(seed(42));
  const options = { random, operations: 150, concurrency: 6, maxLength: 60_000, borders: [512, 4096] };
  await exercise(childDisk(child, random), model, options);
  await verify(child, model);
  await release(graph, child);
  await qemuAgrees(path, model.bytes);
  t.true(base.equals(await readFile(join(folder, 'vm-flat.vmdk'))), 'the parent is untouched');
});

test('vmdk: seSparse is read as qemu-img reads it, and not written', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const size = 40 * MIB;
  const disk = mixedDisk(13, size);
  disk.fill(0, 64 * 4096, 70 * 4096);
  await rawFile(folder, 'vm-sesparse.vmdk', seSparse(disk, [64, 65, 5000], [66]));
  disk.fill(0, 5000 * 4096, 5001 * 4096);
  const line = `RW ${size / 512} SESPARSE "vm-sesparse.vmdk"`;
  const path = await writeDescriptor(folder, 'vm.vmdk', descriptor('seSparse', [line]));
  await qemuAgrees(path, disk);
  const graph = graphWith(t, vmdkDriver);
  const child = await holdImage(graph, path);
  t.is(difference(await readAll(child), disk), undefined);
  await release(graph, child);
  await t.throwsAsync(hold(graph, { ...forWriting(path), 'read-only': false }), {
    code: 'EROFS',
    message: /for writing: extent ".*" is SESPARSE, of which no writer is here; open it with read-only=on/,
  });
  const bytes = await readFile(join(folder, 'vm-sesparse.vmdk'));
  bytes.writeBigUInt64LE(1n, 512 + 24);
  await rawFile(folder, 'vm-sesparse.vmdk', bytes);
  await t.throwsAsync(holdImage(graph, path), {
    message: /its journal has to be replayed, only ESXi can do that/,
  });
});

/** Extents of every kind, none of which begins where the grains of its neighbours end. */
const CUSTOM: readonly (readonly [line: string, size: number])[] = [
  ['RW 63 FLAT "a.bin" 17', 63 * 512],
  ['RW 4096 SPARSE "b.vmdk"', 2 * MIB],
  ['RW 100 ZERO', 51_200],
  ['RW 3001 VMFSSPARSE "c.vmdk"', 3001 * 512],
  ['RDONLY 10 FLAT "e.bin" 2', 5120],
  ['NOACCESS 10 FLAT "nowhere.bin" 0', 5120],
  ['RW 2049 SPARSE "d.vmdk"', 2049 * 512],
  ['RW 17 FLAT "a.bin" 0', 17 * 512],
];
const startOf = (index: number): number => CUSTOM.slice(0, index).reduce((sum, [, size]) => sum + size, 0);

async function customDisk(graph: Graph, folder: string): Promise<{ path: string; model: ModelDisk }> {
  const flat = new Random(5).bytes(80 * 512);
  await rawFile(folder, 'a.bin', flat);
  await rawFile(folder, 'e.bin', flat);
  await rawFile(folder, 'c.vmdk', cowd(Buffer.alloc(3001 * 512), { grainSectors: 8 }));
  await createImage(graph, { filename: join(folder, 'b.vmdk'), format: 'vmdk', size: 2 * MIB, options: {} });
  await createImage(graph, {
    filename: join(folder, 'd.vmdk'),
    format: 'vmdk',
    size: 2049 * 512,
    options: {},
  });
  const text = descriptor(
    'custom',
    CUSTOM.map(([line]) => line),
  );
  const model = new ModelDisk(startOf(CUSTOM.length));
  flat.copy(model.bytes, 0, 17 * 512, 80 * 512);
  flat.copy(model.bytes, startOf(4), 1024, 1024 + 5120);
  flat.copy(model.bytes, startOf(7), 0, 17 * 512);
  return { path: await writeDescriptor(folder, 'custom.vmdk', text), model };
}

/** A workload on a stretch of a disk. */
async function exerciseStretch(child: Child, model: ModelDisk, from: number, to: number): Promise<void> {
  const piece = new ModelDisk(to - from);
  model.bytes.copy(piece.bytes, 0, from, to);
  const disk = childDisk(child, new Random(1));
  const shifted = {
    read: (bytes: Buffer, offset: number) => disk.read(bytes, from + offset),
    write: (bytes: Buffer, offset: number) => disk.write(bytes, from + offset),
    zero: (offset: number, length: number, mayUnmap: boolean) => disk.zero(from + offset, length, mayUnmap),
    flush: () => disk.flush(),
  };
  const random = new Random(seed(from + 43));
  const borders = [4096, 65_536];
  await exercise(shifted, piece, { random, operations: 250, concurrency: 12, maxLength: 40_000, borders });
  piece.bytes.copy(model.bytes, from);
}

test('vmdk: a custom disk of extents of every kind, their borders where they please', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const graph = graphWith(t, vmdkDriver);
  const { path, model } = await customDisk(graph, folder);
  const child = await hold(graph, forWriting(path));
  t.is(child.size, model.size);
  await verify(child, model);
  await t.throwsAsync(child.write(Buffer.alloc(512, 1), startOf(4)), {
    code: 'EROFS',
    message: /extent ".*e.bin"/,
  });
  await t.throwsAsync(child.write(Buffer.alloc(512, 1), startOf(5)), { code: 'EROFS' });
  await t.throwsAsync(child.write(Buffer.alloc(512, 1), startOf(2)), {
    code: 'EROFS',
    message: /extent "ZERO"/,
  });
  await child.writeZeroes(startOf(2), CUSTOM[2]?.[1] ?? 0);
  await verify(child, model);
  await exerciseStretch(child, model, 0, startOf(2));
  await exerciseStretch(child, model, startOf(3), startOf(4));
  await exerciseStretch(child, model, startOf(6), model.size);
  await verify(child, model);
  await release(graph, child);
  const again = await holdImage(graph, path);
  await verify(again, model);
  await release(graph, again);
  await run('qemu-img', ['check', '-q', '-f', 'vmdk', join(folder, 'b.vmdk')]);
  await run('qemu-img', ['check', '-q', '-f', 'vmdk', join(folder, 'd.vmdk')]);
});

test('vmdk: an extent alone is shown as a disk of its own, with a warning', async (t) => {
  const folder = await tempDir(t);
  const disk = mixedDisk(14, 2 * MIB);
  const path = await rawFile(folder, 'lost-delta.vmdk', cowd(disk, { grainSectors: 8 }));
  const child = await holdImage(graphWith(t, vmdkDriver), path);
  t.is(child.node.driver.name, 'vmdk');
  t.is(difference(await readAll(child), disk), undefined);
});

test('vmdk: names inside a descriptor are followed only where the gate lets them', async (t) => {
  const folder = await tempDir(t);
  await rawFile(folder, 'real.bin', Buffer.alloc(MIB, 1));
  for (const [name, wanted] of [
    ['/etc/hostname', /outside/],
    ['../escape.bin', /outside/],
    ['/dev/sda', /device|outside/],
    ['/dev/null', /device|outside/],
    ['sub/../../escape.bin', /outside/],
    ['custom.vmdk', /loop/],
  ] as const) {
    const path = await writeDescriptor(
      folder,
      'custom.vmdk',
      descriptor('custom', [`RW 8 FLAT "${name}" 0`]),
    );
    const error = await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path), { instanceOf: BlockError });
    t.regex(error.message, wanted, name);
  }
  const path = await writeDescriptor(folder, 'custom.vmdk', descriptor('custom', ['RW 8 FLAT "real.bin" 0']));
  const child = await holdImage(graphWith(t, vmdkDriver), path);
  t.deepEqual(await readAll(child), Buffer.alloc(4096, 1));
});

test('vmdk: more tables than there is memory for', async (t) => {
  if (!canRun(t, 'qemu-io')) return;
  const folder = await tempDir(t);
  const sectors = 8 * 1024 * 2048;
  const header = cowd(Buffer.alloc(0), { grainSectors: 1 });
  header.writeUInt32LE(sectors, 12);
  header.writeUInt32LE(4096, 24);
  header.writeUInt32LE(36, 28);
  await rawFile(folder, 'big-delta.vmdk', Buffer.concat([header, Buffer.alloc(36 * 512 - header.length)]));
  const lines = [`RW ${sectors} VMFSSPARSE "big-delta.vmdk"`];
  const path = await writeDescriptor(folder, 'big.vmdk', descriptor('vmfsSparse', lines));
  const graph = graphWith(t, vmdkDriver);
  const child = await hold(graph, forWriting(path));
  const random = new Random(seed(47));
  const written = new Map<number, number>();
  for (let round = 0; round < 300; round += 1) {
    const places = Array.from({ length: 8 }, () => random.below(sectors));
    await Promise.all(
      places.map(async (sector) => {
        if (written.has(sector)) return;
        written.set(sector, (round % 255) + 1);
        await child.write(Buffer.alloc(512, (round % 255) + 1), sector * 512);
      }),
    );
  }
  const bytes = Buffer.alloc(512);
  for (const [sector, value] of written) {
    await child.read(bytes, sector * 512);
    if (bytes[0] !== value || bytes[511] !== value)
      t.fail(`sector ${sector} is ${bytes[0]}, wanted ${value}`);
  }
  await release(graph, child);
  const reads = [...written]
    .slice(0, 200)
    .flatMap(([sector, value]) => ['-c', `read -P ${value} ${sector * 512} 512`]);
  t.notRegex((await run('qemu-io', ['-r', '-f', 'vmdk', ...reads, path])).stdout, /failed/i);
  t.true(process.memoryUsage().rss < 512 * MIB);
});
