import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { encodeField } from '../../drivers/format/vdi/header.ts';
import { vdiDriver } from '../../drivers/format/vdi/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage as createFile } from '../../src/cli/create-image.ts';
import { siblings } from '../../src/sys/folders.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  createImage,
  graphWith,
  hold,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  release,
  sha256,
  survivesMutations,
} from './small-image.ts';

const SIZE = 9 * MIB + 512 * 3;

function graphOf(t: ExecutionContext, warn: (message: string) => void = () => {}): Graph {
  const graph = new Graph({ drivers: [rawDriver, fileDriver, vdiDriver], siblings, warn });
  t.teardown(() => graph.close());
  return graph;
}

const forWriting = (path: string) => ({
  driver: 'vdi',
  discard: 'unmap',
  file: { driver: 'file', filename: path },
});

async function judge(t: ExecutionContext, path: string, wanted: Buffer): Promise<void> {
  await run('qemu-img', ['check', '-f', 'vdi', path]);
  await run('qemu-img', ['convert', '-f', 'vdi', '-O', 'raw', path, `${path}.raw`]);
  t.is(difference(await readFile(`${path}.raw`), wanted), undefined);
}

for (const shape of ['static=off', 'static=on']) {
  test(`vdi: reads what qemu-img wrote, ${shape}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.vdi');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vdi', '-o', shape, raw, path]);
    const child = await holdImage(graphWith(t, vdiDriver), path);
    t.is(child.node.driver.name, 'vdi');
    t.is(difference(await readAll(child), disk), undefined);
  });
}

for (const subformat of ['dynamic', 'fixed']) {
  test(`vdi: ${subformat}: an image created and written here is what qemu-img reads`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const path = join(await tempDir(t), 'a.vdi');
    const graph = graphOf(t);
    await createImage(graph, vdiDriver, path, { size: SIZE, options: { subformat } });
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(21));
    for (let round = 0; round < rounds(3, 20); round += 1) {
      const child = await hold(graph, forWriting(path));
      const disk = childDisk(child, random);
      await exercise(disk, model, {
        random,
        operations: 200,
        concurrency: 6,
        maxLength: 3 * MIB,
        borders: [MIB],
      });
      await verify(disk, model);
      await release(graph, child);
      await judge(t, path, model.bytes);
    }
  });
}

test('vdi: small blocks, odd offsets and bytes in front of each block', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, 'odd.vdi');
  const random = new Random(seed(22));
  const blocks = 37;
  const file = Buffer.alloc(0x5000);
  await createImage(graphOf(t), vdiDriver, path, {
    size: blocks * 4096 - 512,
    options: { block_size: 4096 },
  });
  (await readFile(path)).copy(file);
  encodeField(file, 'offset_bmap', 0x233);
  encodeField(file, 'offset_data', 0x233 + blocks * 4 + 7);
  encodeField(file, 'block_extra', 24);
  file.fill(0xff, 0x233, 0x233 + blocks * 4);
  await writeFile(path, file.subarray(0, 0x233 + blocks * 4 + 7));
  const graph = graphOf(t);
  const model = new ModelDisk(blocks * 4096 - 512);
  for (let round = 0; round < 4; round += 1) {
    const child = await hold(graph, forWriting(path));
    const disk = childDisk(child, random);
    await exercise(disk, model, {
      random,
      operations: 300,
      concurrency: 8,
      maxLength: 20_000,
      borders: [4096],
    });
    await verify(disk, model);
    await release(graph, child);
    const again = await hold(graph, { ...forWriting(path), 'read-only': true });
    await verify(again, model);
    t.deepEqual((await vdiDriver.check?.(again.node.impl, { repair: 'none' }))?.messages, []);
    await release(graph, again);
  }
});

test('vdi: discarded blocks are given back to the file system', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'a.vdi');
  const graph = graphOf(t);
  await createImage(graph, vdiDriver, path, { size: 32 * MIB });
  const child = await hold(graph, forWriting(path));
  const model = new ModelDisk(32 * MIB);
  mixedDisk(3, 32 * MIB).copy(model.bytes);
  model.bytes.fill(1, 31 * MIB);
  await child.write(model.bytes, 0);
  await child.flush();
  const before = (await stat(path)).blocks;
  await child.discard(4 * MIB, 8 * MIB);
  await child.discard(30 * MIB, 2 * MIB);
  model.bytes.fill(0, 4 * MIB, 12 * MIB);
  model.bytes.fill(0, 30 * MIB);
  await child.flush();
  t.true((await stat(path)).blocks * 512 < before * 512 - 4 * MIB);
  await child.write(Buffer.alloc(MIB, 7), 5 * MIB);
  model.bytes.fill(7, 5 * MIB, 6 * MIB);
  await verify(child, model);
  await release(graph, child);
  t.true((await stat(path)).size <= 31 * MIB);
  await judge(t, path, model.bytes);
});

test('vdi: every block rewritten after a discard without a flush between', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'a.vdi');
  const graph = graphOf(t);
  await createImage(graph, vdiDriver, path, { size: 4 * MIB });
  const child = await hold(graph, forWriting(path));
  for (let value = 1; value < 5; value += 1) {
    await child.write(Buffer.alloc(4 * MIB, value), 0);
    await child.discard(0, 4 * MIB);
  }
  await child.write(Buffer.alloc(4 * MIB, 9), 0);
  await release(graph, child);
  t.true((await stat(path)).size <= 5 * MIB);
  await judge(t, path, Buffer.alloc(4 * MIB, 9));
});

test('vdi: a differencing image finds its parent by UUID among the files of its folder', async (t) => {
  const folder = await tempDir(t);
  const warnings: string[] = [];
  const graph = graphOf(t, (message) => warnings.push(message));
  const model = new ModelDisk(SIZE);
  mixedDisk(4, SIZE).copy(model.bytes);
  const [other, base, top] = ['another.vdi', 'base.vdi', 'top.vdi'].map((name) => join(folder, name));
  if (other === undefined || base === undefined || top === undefined) return t.fail();
  await createImage(graph, vdiDriver, other, { size: SIZE });
  await createImage(graph, vdiDriver, base, { size: SIZE });
  const parent = await hold(graph, forWriting(base));
  await parent.write(model.bytes, 0);
  await release(graph, parent);
  const facts = await inspect(graph, base);
  await createImage(graph, vdiDriver, top, {
    size: SIZE,
    options: {
      subformat: 'differencing',
      'parent-uuid': facts['uuid'],
      'parent-modification-uuid': facts['modification-uuid'],
    },
  });
  const child = await hold(graph, forWriting(top));
  t.is(child.node.cow?.node.filename, base);
  await verify(child, model);
  const random = new Random(seed(23));
  await exercise(childDisk(child, random), model, {
    random,
    operations: 200,
    concurrency: 6,
    maxLength: MIB,
    borders: [MIB],
  });
  await verify(child, model);
  await release(graph, child);
  const again = await holdImage(graph, top);
  await verify(again, model);
  await release(graph, again);
  t.deepEqual(warnings, []);

  const changed = await hold(graph, forWriting(base));
  await changed.write(Buffer.alloc(1, 1), 0);
  await release(graph, changed);
  await release(graph, await holdImage(graph, top));
  t.regex(warnings.join(), /the parent ".*base.vdi" was changed after this image was made/);

  await writeFile(base, 'gone');
  const error = await t.throwsAsync(holdImage(graph, top));
  t.true(error instanceof BlockError);
  t.regex(error.message, /looked for .*another.vdi.* another file can be given with backing.file.filename/);
});

test('vdi: the sample has its guest hash', async (t) => {
  const bytes = sample(t, 'hoho-06bd1f-hdd.vdi');
  if (bytes === undefined) return;
  const path = await rawFile(await tempDir(t), 'sample.vdi', bytes);
  const child = await holdImage(graphWith(t, vdiDriver), path);
  t.is(sha256(await readAll(child)), '8fdefa42a22b04cf999ba6db209e5e945dd4793fe0e5c0282122df8eac939b4f');
});

test('vdi: what is wrong is named with value and expectation', async (t) => {
  const folder = await tempDir(t);
  const good = join(folder, 'a.vdi');
  await createImage(graphOf(t), vdiDriver, good, { size: 4 * MIB });
  const bytes = await readFile(good);
  const cases: [Parameters<typeof encodeField>[1], number, RegExp][] = [
    ['version', 2, /version is 0.2, must be 1.x/],
    ['image_type', 9, /image_type is 9, must be 1 \(dynamic\)/],
    ['block_size', 1000, /block_size is 1000, must be a multiple of 512/],
    ['block_size', 0x80000000, /block_size is 2147483648/],
    ['blocks_in_image', 3, /blocks_in_image is 3, must be at least 4 for 4194304 bytes/],
    ['blocks_in_image', 0xfffffff0, /the block map ends at 17179869632, must be inside the file/],
    ['blocks_allocated', 5, /blocks_allocated is 5, must be at most blocks_in_image, 4/],
    ['offset_data', 520, /offset_data is 520, must be behind the block map, which ends at 528/],
    ['sector_size', 4096, /sector_size is 4096, must be 512/],
  ];
  for (const [field, value, wanted] of cases) {
    const bad = Buffer.from(bytes);
    encodeField(bad, field, value);
    const path = await rawFile(folder, 'bad.vdi', bad);
    const error = await t.throwsAsync(holdImage(graphOf(t), path, 'vdi'), { instanceOf: BlockError });
    t.regex(error.message, wanted);
  }
});

test('vdi: places that two blocks share are refused for writing', async (t) => {
  const path = join(await tempDir(t), 'a.vdi');
  const graph = graphOf(t);
  await createImage(graph, vdiDriver, path, { size: 4 * MIB });
  const child = await hold(graph, forWriting(path));
  await child.write(Buffer.alloc(2 * MIB, 1), 0);
  await release(graph, child);
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(4), 0, 4, 512 + 4);
  await file.close();
  const error = await t.throwsAsync(hold(graph, forWriting(path)), { instanceOf: BlockError });
  t.regex(error.message, /block map entry 1 is 0, must not name the place of another block/);
  await release(graph, await holdImage(graph, path));
});

test('vdi: a place that a crash left counted but unused is settled by a check, and by the next close', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const graph = graphOf(t);
  const path = join(await tempDir(t), 'a.vdi');
  await createImage(graph, vdiDriver, path, { size: SIZE });
  const child = await hold(graph, forWriting(path));
  await child.write(Buffer.alloc(3 * MIB, 1), 0);
  await release(graph, child);
  const bytes = await readFile(path);
  encodeField(bytes, 'blocks_allocated', 5);
  bytes.writeUInt32LE(0xffffffff, 512 + 4);
  const crashed = Buffer.concat([bytes, Buffer.alloc(2 * MIB)]);
  const wanted = Buffer.alloc(SIZE);
  wanted.fill(1, 0, MIB).fill(1, 2 * MIB, 3 * MIB);
  for (const repair of ['none', 'leaks'] as const) {
    await writeFile(path, crashed);
    const before = await inspect(graph, path);
    const again = await hold(graph, forWriting(path));
    const found = await vdiDriver.check?.(again.node.impl, { repair });
    t.like(found, {
      corruptions: 0,
      leaks: repair === 'none' ? 3 : 0,
      leaksFixed: repair === 'none' ? 0 : 3,
    });
    await release(graph, again);
    await judge(t, path, wanted);
    t.is((await inspect(graph, path))['modification-uuid'], before['modification-uuid']);
  }
});

test.serial('vdi: damaged images are refused or served', async (t) => {
  const path = join(await tempDir(t), 'a.vdi');
  const graph = graphOf(t);
  await createImage(graph, vdiDriver, path, { size: 4 * MIB, options: { block_size: 64 * 1024 } });
  const child = await hold(graph, forWriting(path));
  await child.write(mixedDisk(5, 2 * MIB), MIB);
  await release(graph, child);
  await survivesMutations(t, graph, {
    driver: 'vdi',
    seed: seed(24),
    path,
    tables: [
      [0x40, 0x50],
      [0x154, 0x1d8],
      [512, 512 + 256],
    ],
    writable: true,
  });
});

async function inspect(graph: Graph, path: string): Promise<Readonly<Record<string, unknown>>> {
  const child = await holdImage(graph, path);
  const info = await child.node.impl.info?.();
  await release(graph, child);
  return info?.formatSpecific ?? {};
}

test('vdi: a size that can not be written later is refused, and leaves no file', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const filename = join(folder, 'a.vdi');
  const size = 65 * 2 ** 40;
  await t.throwsAsync(createFile(graph, { filename, format: 'vdi', size, options: {} }), {
    code: 'EFBIG',
    message: /must be at most 70368744177664 with block_size=1048576/,
  });
  t.deepEqual(await readdir(folder), []);
  await createFile(graph, { filename, format: 'vdi', size, options: { block_size: '64M' } });
  t.is((await holdImage(graph, filename, 'vdi', false)).size, size);
});
