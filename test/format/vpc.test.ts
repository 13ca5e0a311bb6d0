import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { diskSize, geometryFor } from '../../drivers/format/vpc/disk-size.ts';
import { vpcDriver } from '../../drivers/format/vpc/driver.ts';
import { decodeHeader, encodeHeader } from '../../drivers/format/vpc/dynamic-header.ts';
import { decodeFooter, encodeFooter, footerChecksum } from '../../drivers/format/vpc/footer.ts';
import type { Footer } from '../../drivers/format/vpc/footer.ts';
import { BlockError } from '../../src/block/errors.ts';
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
import { footerOf, forWriting, graphOf, SIZE, writtenImage } from './vpc-images.ts';

/** qemu-img's reading of the image, by current_size. */
async function judge(t: ExecutionContext, path: string, wanted: Buffer): Promise<void> {
  const image = `driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=${path}`;
  await run('qemu-img', ['convert', '--image-opts', '-O', 'raw', image, `${path}.raw`]);
  t.is(difference(await readFile(`${path}.raw`), wanted), undefined);
}

for (const subformat of ['dynamic', 'fixed']) {
  test(`vpc: ${subformat}: reads what qemu-img wrote`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.vhd');
    const shape = `subformat=${subformat},force_size=on`;
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', '-o', shape, raw, path]);
    const child = await holdImage(graphOf(t), path);
    t.is(child.node.driver.name, 'vpc');
    t.is(difference(await readAll(child), disk), undefined);
  });

  test(`vpc: ${subformat}: an image created and written here is what qemu-img reads`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const path = join(await tempDir(t), 'a.vhd');
    const graph = graphOf(t);
    await createImage(graph, vpcDriver, path, { size: SIZE, options: { subformat, block_size: 524_288 } });
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(31));
    await judge(t, path, model.bytes);
    for (let round = 0; round < rounds(3, 20); round += 1) {
      const child = await hold(graph, forWriting(path));
      const disk = childDisk(child, random);
      await exercise(disk, model, {
        random,
        operations: 200,
        concurrency: 6,
        maxLength: 2 * MIB,
        borders: [524_288],
      });
      await verify(disk, model);
      await release(graph, child);
      await judge(t, path, model.bytes);
    }
  });
}

test('vpc: the size is that of the geometry for creators that mean it', (t) => {
  const footer: Footer = {
    ...decodeFooter(Buffer.alloc(512)),
    current_size: 10 * MIB,
    ...geometryFor(10 * MIB - 60_000),
  };
  const chs = footer.cylinders * footer.heads * footer.sectors * 512;
  for (const creator of ['win ', 'd2v ', 'qem2', 'CTXS', 'tap\0']) {
    t.is(diskSize({ ...footer, creator_app: creator }, undefined), 10 * MIB, creator);
    t.is(diskSize({ ...footer, creator_app: creator }, 'chs'), chs, creator);
  }
  for (const creator of ['vpc ', 'vs  ', 'qemu']) {
    t.is(diskSize({ ...footer, creator_app: creator }, undefined), chs, creator);
    t.is(diskSize({ ...footer, creator_app: creator }, 'current_size'), 10 * MIB, creator);
  }
  const largest = { ...footer, creator_app: 'vpc ', cylinders: 65_535, heads: 16, sectors: 255 };
  t.is(diskSize({ ...largest, current_size: 2 ** 40 }, undefined), 2 ** 40);
});

test('vpc: sizes and geometries are those of qemu-img', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const graph = graphOf(t);
  for (const size of [MIB, 4 * MIB + 512, 60 * MIB, 600 * MIB, 5000 * MIB, 40_000 * MIB, 130_000 * MIB]) {
    const [theirs, ours] = [join(folder, 't.vhd'), join(folder, 'o.vhd')];
    await run('qemu-img', ['create', '-q', '-f', 'vpc', theirs, String(size)]);
    await createImage(graph, vpcDriver, ours, { size, options: { force_size: false } });
    const [one, other] = [await footerOf(theirs), await footerOf(ours)];
    const geometry = ({ cylinders, heads, sectors }: Footer) => [cylinders, heads, sectors];
    t.deepEqual(geometry(other), geometry(one), String(size));
    const child = await holdImage(graph, theirs);
    const info: { 'virtual-size': number } = JSON.parse(
      (await run('qemu-img', ['info', '--output=json', theirs])).stdout,
    );
    t.is(child.size, info['virtual-size']);
    await release(graph, child);
  }
});

test('vpc: the samples have their guest hashes', async (t) => {
  for (const [name, hash] of [
    ['mkimg-gpt-512-1x1.vhd', 'c9c4e305b2b60c4379e1850f2c412d8b0717874b3d6e206354ebb9263db68c9b'],
    ['mkimg-gpt-512-1x1-fixed.vhd', '7bec1f3798a95e2b33eba7e24531bbe40958c8498fa30947a8fb057031908c68'],
  ] as const) {
    const bytes = sample(t, name);
    if (bytes === undefined) return;
    const path = await rawFile(await tempDir(t), name, bytes);
    const child = await holdImage(graphOf(t), path);
    t.is(child.node.driver.name, 'vpc');
    t.is(sha256(await readAll(child)), hash);
  }
});

test('vpc: the copy is used when the footer is damaged, and a write repairs it', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const warnings: string[] = [];
  const graph = graphOf(t, (message) => warnings.push(message));
  const model = await writtenImage(t, graph, path, 'dynamic');
  const whole = (await stat(path)).size;
  for (const damage of [
    (bytes: Buffer) => bytes.fill(0x55, whole - 512),
    (bytes: Buffer) => bytes.subarray(0, whole - 512),
  ]) {
    await writeFile(path, damage(await readFile(path)));
    await verify(await holdImage(graph, path), model);
    t.regex(warnings.pop() ?? '', /the copy at its start is used/);
    await graph.close();
    const child = await hold(graph, forWriting(path));
    await child.write(Buffer.alloc(700, 9), 5 * MIB);
    model.bytes.fill(9, 5 * MIB, 5 * MIB + 700);
    await child.discard(0, 2 * MIB);
    model.bytes.fill(0, 0, 2 * MIB);
    await release(graph, child);
    warnings.length = 0;
    const again = await holdImage(graph, path);
    await verify(again, model);
    await release(graph, again);
    t.deepEqual(warnings, []);
  }
});

test('vpc: a fixed disk with a footer of 511 bytes is known by it', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const graph = graphOf(t);
  await createImage(graph, vpcDriver, path, { size: MIB, options: { subformat: 'fixed' } });
  const bytes = await readFile(path);
  for (const [end, score] of [
    [bytes.length, 95],
    [bytes.length - 1, 95],
    [bytes.length - 2, 0],
  ] as const) {
    const tail = bytes.subarray(end - 4096, end);
    t.is(vpcDriver.probe?.(bytes.subarray(0, 4096), path, tail, end), score);
  }
  await writeFile(path, bytes.subarray(0, -1));
  const child = await holdImage(graph, path);
  t.is(child.size, MIB);
  await release(graph, child);
});

test('vpc: at every moment of growing the file ends with a good footer', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const graph = graphOf(t);
  await createImage(graph, vpcDriver, path, { size: 64 * MIB });
  const child = await hold(graph, forWriting(path));
  for (let at = 0; at < 64 * MIB; at += 4 * MIB) {
    await child.write(Buffer.alloc(100, 1), at);
    const bytes = await readFile(path);
    t.is(decodeFooter(bytes.subarray(-512)).cookie, 'conectix');
    t.is(bytes.length % 512, 0);
  }
  await release(graph, child);
  const block = 2 * MIB + 512;
  t.is((await stat(path)).size, 512 + 1024 + 512 + 16 * block + 512);
});

test('vpc: what other programs keep in the reserved bytes of a footer outlives growing and resizing', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const graph = graphOf(t);
  await createImage(graph, vpcDriver, path, { size: SIZE });
  const bytes = await readFile(path);
  for (const at of [0, bytes.length - 512]) {
    const footer = bytes.subarray(at, at + 512);
    footer.fill(0xa5, 85);
    footer.writeUInt32BE(footerChecksum(footer), 64);
  }
  await writeFile(path, bytes);
  const child = await hold(graph, forWriting(path));
  await child.write(Buffer.alloc(4 * MIB, 1), 0);
  await child.resize(SIZE + MIB);
  await release(graph, child);
  const after = await readFile(path);
  for (const footer of [after.subarray(0, 512), after.subarray(-512)])
    t.true(footer.subarray(85).equals(Buffer.alloc(427, 0xa5)));
});

test('vpc: clear bits of a dynamic image read as zeroes, and are set by writing', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const graph = graphOf(t);
  const model = await writtenImage(t, graph, path, 'dynamic');
  const bytes = await readFile(path);
  const bitmapAt = bytes.readUInt32BE(512 + 1024 + 4) * 512;
  bytes[bitmapAt] = 0x0f;
  bytes[bitmapAt + 7] = 0xfe;
  await writeFile(path, bytes);
  model.zero(2 * MIB, 4 * 512);
  model.zero(2 * MIB + 63 * 512, 512);
  const child = await hold(graph, forWriting(path));
  await verify(child, model);
  await child.write(Buffer.alloc(700, 4), 2 * MIB + 600);
  model.bytes.fill(4, 2 * MIB + 600, 2 * MIB + 1300);
  await verify(child, model);
  await release(graph, child);
  await verify(await holdImage(graph, path), model);
  t.is((await readFile(path))[bitmapAt], 0x6f);
});

test('vpc: what is wrong is named with value and expectation', async (t) => {
  const folder = await tempDir(t);
  const good = join(folder, 'a.vhd');
  await createImage(graphOf(t), vpcDriver, good, { size: 4 * MIB });
  const bytes = await readFile(good);
  const footer = decodeFooter(bytes.subarray(-512));
  const header = decodeHeader(bytes.subarray(512, 1536));
  const withFooter = (change: Partial<Footer>): Buffer => {
    const bad = Buffer.from(bytes);
    const changed = encodeFooter({ ...footer, ...change });
    changed.copy(bad, 0);
    changed.copy(bad, bad.length - 512);
    return bad;
  };
  const withHeader = (change: Partial<typeof header>): Buffer => {
    const bad = Buffer.from(bytes);
    encodeHeader(bad.subarray(512, 1536), { ...header, ...change });
    return bad;
  };
  const unsummed = Buffer.from(bytes);
  unsummed.fill(7, 30, 31);
  unsummed.fill(7, unsummed.length - 400, unsummed.length - 399);
  const cases: [Buffer, RegExp][] = [
    [withFooter({ type: 6 }), /type is 6, must be 2 \(fixed\)/],
    [withFooter({ version: 0x00020001 }), /version is 2.1, must be 1.x/],
    [withFooter({ data_offset: Number.NaN }), /data_offset is none, must be from 512/],
    [
      withFooter({ current_size: 2 ** 40 }),
      /max_table_entries is 2, must be at least 524288 for 1099511627776 bytes/,
    ],
    [unsummed, /the footer's checksum is \d+, must be \d+/],
    [withHeader({ block_size: 3000 }), /block_size is 3000, must be a power of two from 512/],
    [withHeader({ cookie: 'cxspares' }), /cookie is "cxspares", must be "cxsparse"/],
    [
      withHeader({ max_table_entries: 0xffffffff }),
      /the block allocation table ends at \d+, must be inside the file/,
    ],
  ];
  for (const [bad, wanted] of cases) {
    const path = await rawFile(folder, 'bad.vhd', bad);
    const error = await t.throwsAsync(holdImage(graphOf(t), path, 'vpc'), { instanceOf: BlockError });
    t.regex(error.message, wanted);
  }
});

test.serial('vpc: damaged images are refused or served', async (t) => {
  const path = join(await tempDir(t), 'a.vhd');
  const graph = graphOf(t);
  await writtenImage(t, graph, path, 'dynamic');
  const bytes = await readFile(path);
  const bitmapAt = bytes.readUInt32BE(512 + 1024) * 512;
  await survivesMutations(t, graph, {
    driver: 'vpc',
    seed: seed(34),
    path,
    tables: [
      [bytes.length - 512, bytes.length - 400],
      [1536, 1536 + 24],
      [bitmapAt, bitmapAt + 512],
    ],
    writable: true,
  });
});
