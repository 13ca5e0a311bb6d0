/** Sparse extents of shapes that VMware may write and qemu-img reads, but that nobody here makes. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { graphWith, hold, holdImage, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';
import { descriptor, forWriting, hostedTables, libvmdkAgrees, qemuAgrees } from './vmdk-fixtures.ts';
import { hosted } from './vmdk-hosted.ts';
import type { HostedShape } from './vmdk-hosted.ts';

type Shape = Omit<HostedShape, 'descriptor'>;

const SHAPES: readonly (readonly [title: string, size: number, shape: Shape])[] = [
  ['grains of 1 sector', MIB + 512, { grainSectors: 1, tableEntries: 512, redundant: true }],
  [
    'grains of 8 sectors, tables of 64',
    5 * MIB + 1536,
    { grainSectors: 8, tableEntries: 64, redundant: true },
  ],
  [
    'grains of 256 sectors',
    9 * MIB - 512,
    { grainSectors: 256, tableEntries: 512, redundant: true, gap: 77 },
  ],
  ['grains of 2 MiB, one directory', 9 * MIB, { grainSectors: 4096, tableEntries: 128, redundant: false }],
  [
    'zeroed grains and tables of 13',
    5 * MIB - 1024,
    { grainSectors: 16, tableEntries: 13, redundant: true, zeroedGrains: true, gap: 3 },
  ],
  [
    'a descriptor of 60 sectors',
    2 * MIB,
    { grainSectors: 128, tableEntries: 512, redundant: true, room: 60 },
  ],
];

const textFor = (size: number): string =>
  descriptor('monolithicSparse', [`RW ${size / 512} SPARSE "disk.vmdk"`]);

for (const [title, size, shape] of SHAPES) {
  test(`vmdk: a sparse extent with ${title} is read and written, as qemu-img and libvmdk see it`, async (t) => {
    if (!canRun(t, 'qemu-img', 'vmdkmount', 'fusermount3')) return;
    const folder = await tempDir(t);
    const model = new ModelDisk(size);
    mixedDisk(21, size).copy(model.bytes);
    const bytes = hosted(model.bytes, { ...shape, descriptor: textFor(size) });
    const path = await rawFile(folder, 'disk.vmdk', bytes);
    await qemuAgrees(path, model.bytes);
    const graph = graphWith(t, vmdkDriver);
    const child = await hold(graph, forWriting(path));
    await verify(child, model);
    const random = new Random(seed(52));
    const borders = [shape.grainSectors * 512];
    const options = { random, operations: 120, concurrency: 6, maxLength: 200_000, borders };
    await exercise(childDisk(child, random), model, options);
    await verify(child, model);
    await release(graph, child);
    await qemuAgrees(path, model.bytes);
    // libvmdk takes no grains of 8 sectors or less, and zeroed ones for such at sector 1.
    if (shape.grainSectors > 8 && shape.zeroedGrains !== true) await libvmdkAgrees(path, model.bytes);
    const file = await readFile(path);
    const primary = hostedTables(file, 'primary');
    t.true(primary.some((entry) => entry > 1));
    if (shape.redundant) t.deepEqual(primary, hostedTables(file, 'redundant'));
  });
}

for (const [grainSectors, tableEntries] of [
  [8, 512],
  [128, 512],
  [1024, 64],
] as const) {
  test(`vmdk: compressed grains of ${grainSectors} sectors, directory at the head, are read`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const size = 6 * MIB + 512;
    const disk = mixedDisk(22, size);
    const shape = { grainSectors, tableEntries, redundant: false, compressed: true };
    const path = await rawFile(folder, 'disk.vmdk', hosted(disk, { ...shape, descriptor: textFor(size) }));
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'vmdk', await rawFile(folder, 'w.raw', disk), path]);
    const graph = graphWith(t, vmdkDriver);
    const child = await holdImage(graph, path);
    t.is(difference(await readAll(child), disk), undefined);
    t.is(difference(await readAll(child, 4096), disk), undefined);
    await release(graph, child);
    await t.throwsAsync(hold(graph, { driver: 'vmdk', file: { driver: 'file', filename: join(path) } }), {
      code: 'EROFS',
    });
  });
}
