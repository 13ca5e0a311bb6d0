import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vhdxDriver } from '../../drivers/format/vhdx/driver.ts';
import { encodeHeader, HEADER_PLACES } from '../../drivers/format/vhdx/header.ts';
import { VhdxImage } from '../../drivers/format/vhdx/image.ts';
import { encodeEntry } from '../../drivers/format/vhdx/log-entry.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import { createImage, hold, holdImage, MIB, release, survivesMutations } from './small-image.ts';
import { forWriting, graphOf, headerOf, SIZE, writtenImage } from './vhdx-images.ts';

for (const sector of ['512', '4096']) {
  test(`vhdx: a differencing image holds single sectors of ${sector}, the rest is its parent`, async (t) => {
    const folder = await tempDir(t);
    const graph = graphOf(t);
    const [base, middle, top] = ['base.vhdx', 'middle.vhdx', 'top.vhdx'].map((name) => join(folder, name));
    if (base === undefined || middle === undefined || top === undefined) return t.fail();
    const model = await writtenImage(graph, base);
    const random = new Random(seed(42));
    for (const [path, parent] of [
      [middle, base],
      [top, middle],
    ] as const) {
      await createImage(graph, vhdxDriver, path, {
        size: model.size,
        options: {
          subformat: 'differencing',
          logical_sector_size: sector,
          backing_file: parent.slice(folder.length + 1),
          'parent-linkage': (await headerOf(parent)).data_write_guid,
        },
      });
      for (let round = 0; round < 2; round += 1) {
        const child = await hold(graph, forWriting(path));
        t.is(child.node.cow?.node.filename, parent);
        await verify(child, model);
        const disk = childDisk(child, random);
        await exercise(disk, model, {
          random,
          operations: 200,
          concurrency: 6,
          maxLength: round === 0 ? 100_000 : 3 * MIB,
          borders: [512, 4096, 2 * MIB],
        });
        await verify(disk, model);
        t.deepEqual((await vhdxDriver.check?.(child.node.impl, { repair: 'none' }))?.messages, []);
        await release(graph, child);
      }
    }
    await verify(await holdImage(graph, top), model);
  });
}

test('vhdx: a small write into a differencing image takes little of the file system', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhdx');
  const top = join(folder, 'top.vhdx');
  const model = await writtenImage(graph, base);
  const options = {
    subformat: 'differencing',
    backing_file: 'base.vhdx',
    'parent-linkage': (await headerOf(base)).data_write_guid,
  };
  await createImage(graph, vhdxDriver, top, { size: model.size, options });
  const before = (await stat(top)).blocks;
  const child = await hold(graph, forWriting(top));
  await child.write(Buffer.alloc(4096, 3), 4096);
  await child.writeZeroes(4 * MIB, 2 * MIB);
  model.bytes.fill(3, 4096, 8192);
  model.zero(4 * MIB, 2 * MIB);
  await release(graph, child);
  t.true(((await stat(top)).blocks - before) * 512 < 128 * 1024);
  await verify(await holdImage(graph, top), model);
});

test('vhdx: a parent with another DataWriteGuid is refused, unless the user gives it', async (t) => {
  const folder = await tempDir(t);
  const warnings: string[] = [];
  const graph = graphOf(t, (message) => warnings.push(message));
  const base = join(folder, 'base.vhdx');
  const top = join(folder, 'top.vhdx');
  const model = await writtenImage(graph, base);
  const linkage = (await headerOf(base)).data_write_guid;
  await createImage(graph, vhdxDriver, top, {
    size: model.size,
    options: { subformat: 'differencing', backing_file: 'C:\\vm\\base.vhdx', 'parent-linkage': linkage },
  });
  const opened = await hold(graph, forWriting(base));
  await release(graph, opened);
  await release(graph, await holdImage(graph, top));
  t.is((await headerOf(base)).data_write_guid, linkage, 'opening alone changes nothing');
  const changed = await hold(graph, forWriting(base));
  await changed.write(Buffer.alloc(1), 0);
  await release(graph, changed);
  t.not((await headerOf(base)).data_write_guid, linkage);
  const error = await t.throwsAsync(holdImage(graph, top), { instanceOf: BlockError });
  t.regex(error.message, /its DataWriteGuid is [0-9a-f-]{36}, must be [0-9a-f-]{36}/);
  const given = { ...forWriting(top), 'read-only': true, backing: { filename: base } };
  await release(graph, await hold(graph, given));
  t.regex(warnings.join(), /its DataWriteGuid is/);
  await rm(base);
  const missing = await t.throwsAsync(holdImage(graph, top), { instanceOf: BlockError });
  t.regex(missing.message, /Cannot open backing "C:\/vm\/base.vhdx|Cannot open backing "base.vhdx/);
});

test('vhdx: libvhdi reads a differencing image and its parent as we do', async (t) => {
  if (!canRun(t, 'vhdimount', 'fusermount3') || !isRoot(t)) return;
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhdx');
  const top = join(folder, 'top.vhdx');
  const model = await writtenImage(graph, base);
  await createImage(graph, vhdxDriver, top, {
    size: model.size,
    options: { backing_file: 'base.vhdx', 'parent-linkage': (await headerOf(base)).data_write_guid },
  });
  const child = await hold(graph, forWriting(top));
  const random = new Random(seed(43));
  for (let round = 0; round < 200; round += 1) {
    const offset = random.below(model.size - 1);
    const bytes = random.bytes(Math.min(model.size - offset, 512 * random.between(1, 30)));
    await child.write(bytes, offset);
    model.write(bytes, offset);
  }
  await release(graph, child);
  const mountpoint = await tempDir(t);
  await run('vhdimount', [top, mountpoint]);
  try {
    t.is(difference(await readFile(join(mountpoint, 'vhdi2')), model.bytes), undefined);
  } finally {
    await run('fusermount3', ['-u', mountpoint]);
  }
});

test.serial('vhdx: damaged differencing images with a damaged log are refused or served', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhdx');
  const top = join(folder, 'top.vhdx');
  await writtenImage(graph, base);
  const { data_write_guid: linkage } = await headerOf(base);
  const options = { backing_file: 'base.vhdx', 'parent-linkage': linkage, block_size: MIB };
  await createImage(graph, vhdxDriver, top, { size: SIZE, options });
  const child = await hold(graph, forWriting(top));
  await child.write(Buffer.alloc(3000, 1), 1000);
  await release(graph, child);
  const bytes = await readFile(top);
  const { offset: bitmap } = await bitmapOf(graph, top);
  const header = await headerOf(top);
  const sectors = [{ offset: 3 * MIB, bytes: Buffer.from(bytes.subarray(3 * MIB, 3 * MIB + 4096)) }];
  const entry = encodeEntry({ guid: linkage, sequence: 3n, tail: 0, fileSize: bytes.length, sectors });
  entry.copy(bytes, header.log_offset);
  for (const place of HEADER_PLACES) encodeHeader({ ...header, log_guid: linkage }).copy(bytes, place);
  await writeFile(top, bytes);
  await survivesMutations(t, graph, {
    driver: 'vhdx',
    seed: seed(45),
    path: top,
    tables: [
      [MIB, MIB + 128],
      [MIB + 4096, MIB + 8192],
      [2 * MIB + 32, 2 * MIB + 224],
      [2 * MIB + 65_536, 2 * MIB + 65_536 + 300],
      [bitmap, bitmap + 16],
    ],
    writable: true,
  });
});

async function bitmapOf(graph: Graph, path: string): Promise<{ offset: number }> {
  const child = await holdImage(graph, path);
  const { impl } = child.node;
  if (!(impl instanceof VhdxImage)) throw new TypeError('not a VHDX image');
  await child.read(Buffer.alloc(512), 0);
  const offset = impl.bat.bitmapBlock(0) ?? 0;
  await release(graph, child);
  return { offset };
}
