import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vpcDriver } from '../../drivers/format/vpc/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import { createImage, hold, holdImage, MIB, release, survivesMutations } from './small-image.ts';
import { footerOf, forWriting, graphOf, writtenImage } from './vpc-images.ts';

test('vpc: a differencing image holds single sectors, the rest is its parent', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const [base, middle, top] = ['base.vhd', 'middle.vhd', 'top.vhd'].map((name) => join(folder, name));
  if (base === undefined || middle === undefined || top === undefined) return t.fail();
  const model = await writtenImage(t, graph, base, 'dynamic');
  const random = new Random(seed(32));
  for (const [path, parent] of [
    [middle, base],
    [top, middle],
  ] as const) {
    await createImage(graph, vpcDriver, path, {
      size: model.size,
      options: {
        subformat: 'differencing',
        backing_file: parent.slice(folder.length + 1),
        'parent-uuid': (await footerOf(parent)).uuid,
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
        maxLength: 100_000,
        borders: [512, 4096, 2 * MIB],
      });
      await verify(disk, model);
      await release(graph, child);
    }
  }
  const again = await holdImage(graph, top);
  await verify(again, model);
  await release(graph, again);
  t.true((await stat(top)).blocks * 512 < 9 * MIB);
});

/** Bits of one byte alike: libvhdi 20210425 reads the sectors behind a set bit, in the same byte, as zeroes. */
test('vpc: libvhdi reads a differencing image and its parent as we do', async (t) => {
  if (!canRun(t, 'vhdimount', 'fusermount3') || !isRoot(t)) return;
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhd');
  const top = join(folder, 'top.vhd');
  const model = await writtenImage(t, graph, base, 'dynamic');
  await createImage(graph, vpcDriver, top, {
    size: model.size,
    options: {
      subformat: 'differencing',
      backing_file: 'base.vhd',
      'parent-uuid': (await footerOf(base)).uuid,
    },
  });
  const child = await hold(graph, forWriting(top));
  const random = new Random(seed(33));
  for (let round = 0; round < 100; round += 1) {
    const offset = random.below(model.size / 4096) * 4096;
    const bytes = random.bytes(Math.min(model.size - offset, 4096 * random.between(1, 9)));
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

test('vpc: a small write into a differencing image costs a block of the file but not of the disk', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhd');
  const top = join(folder, 'top.vhd');
  const model = await writtenImage(t, graph, base, 'fixed');
  await createImage(graph, vpcDriver, top, {
    size: model.size,
    options: {
      subformat: 'differencing',
      backing_file: base,
      'parent-uuid': (await footerOf(base)).uuid,
    },
  });
  const child = await hold(graph, forWriting(top));
  await child.write(Buffer.alloc(4096, 3), 4096);
  model.bytes.fill(3, 4096, 8192);
  await release(graph, child);
  t.true((await stat(top)).blocks * 512 < 64 * 1024);
  await verify(await holdImage(graph, top), model);
});

test('vpc: a parent that is missing or another image is named, and can be given', async (t) => {
  const folder = await tempDir(t);
  const warnings: string[] = [];
  const graph = graphOf(t, (message) => warnings.push(message));
  const base = join(folder, 'base.vhd');
  const top = join(folder, 'top.vhd');
  const model = await writtenImage(t, graph, base, 'dynamic');
  await createImage(graph, vpcDriver, top, {
    size: model.size,
    options: {
      subformat: 'differencing',
      backing_file: 'C:\\images\\base.vhd',
      'parent-uuid': '12345678-1234-1234-1234-123456789abc',
    },
  });
  const wrong = await t.throwsAsync(holdImage(graph, top), { instanceOf: BlockError });
  t.regex(wrong.message, /its UUID is [0-9a-f-]{36}, must be 12345678-1234/);
  t.regex(wrong.message, /backing.file.filename/);
  const child = await hold(graph, {
    driver: 'vpc',
    'read-only': true,
    file: { driver: 'file', filename: top },
    backing: { filename: base },
  });
  await verify(child, model);
  await release(graph, child);
  t.regex(warnings.join(), /must be 12345678-1234/);
  await rm(base);
  const missing = await t.throwsAsync(holdImage(graph, top), { instanceOf: BlockError });
  t.regex(missing.message, /Cannot open backing .*base.vhd.* looked for/);
});

test.serial('vpc: damaged differencing images are refused or served', async (t) => {
  const folder = await tempDir(t);
  const graph = graphOf(t);
  const base = join(folder, 'base.vhd');
  const top = join(folder, 'top.vhd');
  const model = await writtenImage(t, graph, base, 'dynamic');
  const options = { backing_file: 'base.vhd', 'parent-uuid': (await footerOf(base)).uuid };
  await createImage(graph, vpcDriver, top, { size: model.size, options });
  const child = await hold(graph, forWriting(top));
  await child.write(Buffer.alloc(3000, 1), 1000);
  await release(graph, child);
  const bytes = await readFile(top);
  const bitmap = bytes.readUInt32BE(2048) * 512;
  // a damaged checksum hides all other damage of the dynamic header
  await survivesMutations(t, graph, {
    driver: 'vpc',
    seed: seed(35),
    path: top,
    tables: [
      [512, 1536],
      [1536, 1600],
      [2048, 2048 + 20],
      [bitmap, bitmap + 32],
    ],
    writable: true,
  });
});
