import { readFile, rename, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { qcowDriver } from '../../drivers/format/qcow/driver.ts';
import { splitDriver } from '../../drivers/format/split.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { graphWith, holdImage, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';

const PART = MIB + 512;

async function writeParts(folder: string, disk: Buffer, first: number, width: number): Promise<string[]> {
  const paths: string[] = [];
  for (let at = 0; at < disk.length; at += PART) {
    const name = `disk.${String(first + paths.length).padStart(width, '0')}`;
    paths.push(await rawFile(folder, name, disk.subarray(at, at + PART)));
  }
  return paths;
}

for (const [first, width] of [
  [1, 3],
  [0, 3],
  [1, 4],
] as const) {
  test(`split: is read and written, from ${first} with ${width} digits`, async (t) => {
    const folder = await tempDir(t);
    const model = new ModelDisk(12 * MIB + 1536);
    mixedDisk(1, model.size).copy(model.bytes);
    const paths = await writeParts(folder, model.bytes, first, width);
    const graph = graphWith(t, splitDriver);
    const child = await holdImage(graph, paths[0] ?? '', undefined, false);
    t.is(child.node.driver.name, 'split');
    t.is(difference(await readAll(child), model.bytes), undefined);
    const random = new Random(seed(51));
    const disk = childDisk(child, random);
    await exercise(disk, model, {
      random,
      operations: 200,
      concurrency: 4,
      maxLength: 2 * MIB,
      borders: [PART],
    });
    await verify(disk, model);
    await release(graph, child);
    t.is(
      difference(Buffer.concat(await Promise.all(paths.map((path) => readFile(path)))), model.bytes),
      undefined,
    );
  });
}

test('split: the last part grows up to the size of the others and shrinks to a byte, no further', async (t) => {
  const folder = await tempDir(t);
  const model = Buffer.alloc(3 * PART);
  mixedDisk(4, 2 * PART + 5000).copy(model);
  const paths = await writeParts(folder, model.subarray(0, 2 * PART + 5000), 1, 3);
  const graph = graphWith(t, splitDriver);
  const child = await holdImage(graph, paths[0] ?? '', undefined, false);
  await child.resize(3 * PART);
  t.is(difference(await readAll(child), model), undefined, 'zeroes where it has grown');
  const wanted =
    /disk.003", would have \d+ bytes, must have 1 to 1049088; parts are neither added nor removed/;
  await t.throwsAsync(child.resize(3 * PART + 1), { code: 'ENOTSUP', message: wanted });
  await child.write(Buffer.alloc(1000, 9), 3 * PART - 1000);
  await child.resize(2 * PART + 1, true);
  await t.throwsAsync(child.resize(2 * PART, true), { code: 'ENOTSUP', message: /would have 0 bytes/ });
  await t.throwsAsync(child.resize(PART, true), { code: 'ENOTSUP', message: /parts are neither added/ });
  t.is(difference(await readAll(child), model.subarray(0, 2 * PART + 1)), undefined);
  await child.write(Buffer.alloc(20, 5), 3 * PART - 20);
  t.is(child.size, 3 * PART, 'a write behind the end makes it grow');
  await release(graph, child);
  model.fill(0, 2 * PART + 1).fill(5, 3 * PART - 20);
  const parts = await Promise.all(paths.map((path) => readFile(path)));
  t.deepEqual(
    parts.map(({ length }) => length),
    [PART, PART, PART],
  );
  t.is(difference(Buffer.concat(parts), model), undefined);
});

test('split: a missing part is named', async (t) => {
  const paths = await writeParts(await tempDir(t), mixedDisk(2, 5 * PART), 1, 3);
  await unlink(paths[2] ?? '');
  const error = await t.throwsAsync(holdImage(graphWith(t, splitDriver), paths[0] ?? ''));
  t.regex(error.message, /disk\.003" is missing, but disk\.004 is there/);
});

test('split: a moved part is given by option', async (t) => {
  const folder = await tempDir(t);
  const disk = mixedDisk(2, 5 * PART);
  const paths = await writeParts(folder, disk, 1, 3);
  const moved = join(folder, 'moved');
  await rename(paths[2] ?? '', moved);
  const graph = graphWith(t, splitDriver);
  const node = await graph.open({
    driver: 'split',
    'read-only': true,
    file: { driver: 'file', filename: paths[0] },
    'extents.2.file.filename': moved,
  });
  const child = graph.attachRoot(node, { name: 'test', used: 1 });
  t.is(difference(await readAll(child), disk), undefined);
});

test('split: a short part in the middle is refused', async (t) => {
  const paths = await writeParts(await tempDir(t), mixedDisk(2, 5 * PART), 1, 3);
  await truncate(paths[1] ?? '', 5000);
  const error = await t.throwsAsync(holdImage(graphWith(t, splitDriver), paths[0] ?? ''));
  t.regex(error.message, /part disk\.002 has 5000 bytes, must have 1049088 as the first/);
});

test('split: a guest can not turn a probed disk into another format', async (t) => {
  const folder = await tempDir(t);
  const paths = await writeParts(folder, Buffer.alloc(2 * PART), 1, 3);
  const child = await holdImage(graphWith(t, splitDriver, qcowDriver), paths[0] ?? '', undefined, false);
  const head = Buffer.alloc(512);
  head.writeUInt32BE(0x514649fb);
  head.writeUInt32BE(1, 4);
  await t.throwsAsync(child.write(head, 0), { message: /would turn this raw disk into a qcow image/ });
});
