import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import test from 'ava';
import { gzipDriver } from '../../drivers/format/compressed/gzip-driver.ts';
import { xzDriver } from '../../drivers/format/compressed/xz-driver.ts';
import { zstdDriver } from '../../drivers/format/compressed/zstd-driver.ts';
import type { Child } from '../../src/block/child.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { graphWith, holdImage, MIB, mixedDisk, rawFile, readAll, survivesMutations } from './small-image.ts';

const SIZE = 6 * MIB + 512 * 3;
const ALL = [gzipDriver, xzDriver, zstdDriver];

/** All of it in order, then pieces here and there, then pieces at once. */
async function readsAs(child: Child, disk: Buffer): Promise<string | undefined> {
  const whole = difference(await readAll(child), disk);
  if (whole !== undefined) return whole;
  const random = new Random(seed(81));
  const one = async (): Promise<string | undefined> => {
    const length = random.between(1, 200_000);
    const offset = random.below(disk.length - length);
    const bytes = Buffer.alloc(length, 0xdb);
    await child.read(bytes, offset);
    return difference(bytes, disk.subarray(offset, offset + length), offset);
  };
  for (let round = 0; round < 30; round += 1) {
    const found = await one();
    if (found !== undefined) return found;
  }
  return (await Promise.all(Array.from({ length: 30 }, one))).find((found) => found !== undefined);
}

const TOOLS = [
  ['gzip', 'gz', 'gzip', ['-6']],
  ['gzip', 'gz', 'gzip', ['-1']],
  ['gzip', 'gz', 'gzip', ['-9', '-n']],
  ['xz', 'xz', 'xz', ['-1']],
  ['xz', 'xz', 'xz', ['-6', '--block-size=1MiB']],
  ['xz', 'xz', 'xz', ['-T2', '-0', '--check=sha256']],
  ['xz', 'xz', 'xz', ['--check=crc32', '--lzma2=lc=0,lp=4,pb=1,dict=1MiB']],
  ['xz', 'xz', 'xz', ['--check=none', '-2']],
  ['zstd', 'zst', 'zstd', ['-q']],
  ['zstd', 'zst', 'zstd', ['-q', '-19', '--no-check', '--long=24']],
] as const;

for (const [tool, ending, driver, args] of TOOLS) {
  test(`${driver}: reads what ${[tool, ...args].join(' ')} packed`, async (t) => {
    if (!canRun(t, tool)) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'disk.img', disk);
    await run(tool, ['-k', ...args, raw]);
    const child = await holdImage(graphWith(t, ...ALL), `${raw}.${ending}`);
    t.is(child.node.driver.name, driver);
    t.is(await readsAs(child, disk), undefined);
  });
}

/** A disk in pieces of odd sizes. */
function cut(disk: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(disk.length / size) }, (_, index) =>
    disk.subarray(index * size, (index + 1) * size),
  );
}

/** A Zstandard frame to be skipped. */
function skippable(magic: number, content: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(magic);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

/** The seekable format of Zstandard, as its document describes it. */
function seekable(frames: readonly Buffer[], plain: readonly Buffer[]): Buffer {
  const table = Buffer.alloc(frames.length * 8 + 9);
  for (const [index, frame] of frames.entries()) {
    table.writeUInt32LE(frame.length, index * 8);
    table.writeUInt32LE(plain[index]?.length ?? 0, index * 8 + 4);
  }
  table.writeUInt32LE(frames.length, frames.length * 8);
  table.writeUInt32LE(0x8f92eab1, frames.length * 8 + 5);
  return Buffer.concat([...frames, skippable(0x184d2a5e, table)]);
}

const unknownSize = (bytes: Buffer): Buffer =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });

const BUILT: Readonly<Record<string, (disk: Buffer) => Buffer>> = {
  'gzip members': (disk) => Buffer.concat(cut(disk, 700_001).map((part) => gzipSync(part))),
  'gzip members, and zeroes behind them': (disk) =>
    Buffer.concat([...cut(disk, 4_000_000).map((part) => gzipSync(part)), Buffer.alloc(1000)]),
  'gzip without compression': (disk) => gzipSync(disk, { level: 0 }),
  'gzip with fixed codes': (disk) => gzipSync(disk, { strategy: constants.Z_FIXED }),
  'zstd frames': (disk) => Buffer.concat(cut(disk, 700_001).map((part) => zstdCompressSync(part))),
  'zstd frames of unknown size': (disk) => Buffer.concat(cut(disk, 5_000_000).map(unknownSize)),
  'zstd frames among frames to be skipped': (disk) =>
    Buffer.concat([
      skippable(0x184d2a53, Buffer.alloc(100)),
      ...cut(disk, 5_000_000).flatMap((part) => [
        zstdCompressSync(part),
        skippable(0x184d2a50, Buffer.alloc(9)),
      ]),
    ]),
  'zstd seekable': (disk) =>
    seekable(
      cut(disk, 300_001).map((part) => zstdCompressSync(part)),
      cut(disk, 300_001),
    ),
};

for (const [title, build] of Object.entries(BUILT)) {
  test(`${title} are read`, async (t) => {
    const disk = mixedDisk(2, SIZE);
    const path = await rawFile(await tempDir(t), 'disk.packed', build(disk));
    const child = await holdImage(graphWith(t, ...ALL), path);
    t.true(title.startsWith(child.node.driver.name));
    t.is(await readsAs(child, disk), undefined);
  });
}

test('xz: streams one behind the other, with padding, are read', async (t) => {
  if (!canRun(t, 'xz')) return;
  const folder = await tempDir(t);
  const disk = mixedDisk(3, 4 * MIB);
  const parts: Buffer[] = [];
  for (const [index, part] of cut(disk, 1_500_000).entries()) {
    const raw = await rawFile(folder, `part${index}`, part);
    await run('xz', ['-1', raw]);
    parts.push(await readFile(`${raw}.xz`), Buffer.alloc(index * 4));
  }
  const path = join(folder, 'disk.xz');
  await writeFile(path, Buffer.concat(parts));
  t.is(await readsAs(await holdImage(graphWith(t, ...ALL), path), disk), undefined);
});

test('an image inside a packed file is read through it', async (t) => {
  const folder = await tempDir(t);
  const disk = mixedDisk(4, MIB);
  const path = await rawFile(folder, 'disk.gz', gzipSync(Buffer.concat([Buffer.alloc(4096), disk])));
  const graph = graphWith(t, ...ALL);
  const node = await graph.open({
    driver: 'raw',
    offset: 4096,
    'read-only': true,
    file: { driver: 'gzip', file: { driver: 'file', filename: path } },
  });
  const child = graph.attachRoot(node, { name: 'test', used: 1 });
  t.is(difference(await readAll(child), disk), undefined);
});

test('packed files: what is damaged or not supported is named', async (t) => {
  const folder = await tempDir(t);
  const graph = graphWith(t, ...ALL);
  const refusal = async (bytes: Buffer, driver: string): Promise<string> => {
    const path = await rawFile(folder, 'bad', bytes);
    return (await t.throwsAsync(holdImage(graph, path, driver))).message;
  };
  const good = gzipSync(mixedDisk(5, MIB));
  t.regex(await refusal(good.subarray(0, good.length - 100), 'gzip'), /must be a whole gzip file/);
  const wrong = Buffer.from(good);
  wrong[good.length - 6] = (wrong[good.length - 6] ?? 0) ^ 1;
  t.regex(await refusal(wrong, 'gzip'), /with CRC 0x[0-9a-f]+, must have \d+ \(mod 2\^32\) with 0x/);
  t.regex(
    await refusal(zstdCompressSync(mixedDisk(5, MIB)).subarray(0, 1000), 'zstd'),
    /must hold it whole|must end at most/,
  );
  t.regex(await refusal(Buffer.alloc(4096, 7), 'xz'), /no stream footer/);
  if (!canRun(t, 'xz')) return;
  const raw = await rawFile(folder, 'bcj', mixedDisk(5, MIB));
  await run('xz', ['--x86', '--lzma2=preset=0', raw]);
  t.regex(await refusal(await readFile(`${raw}.xz`), 'xz'), /filter x86 is not supported, only lzma2/);
});

const DAMAGED: Readonly<Record<string, (disk: Buffer) => Buffer>> = {
  gzip: (disk) => Buffer.concat(cut(disk, 700_001).map((part) => gzipSync(part))),
  zstd: (disk) =>
    seekable(
      cut(disk, 300_001).map((part) => zstdCompressSync(part)),
      cut(disk, 300_001),
    ),
};

for (const [driver, build] of Object.entries(DAMAGED)) {
  test.serial(`${driver}: damaged files are refused or served`, async (t) => {
    const bytes = build(mixedDisk(6, 2 * MIB));
    const path = await rawFile(await tempDir(t), 'disk.packed', bytes);
    await survivesMutations(t, graphWith(t, ...ALL), {
      driver,
      seed: seed(82),
      path,
      tables: [
        [0, 300],
        [bytes.length - 100, bytes.length],
      ],
      writable: false,
    });
  });
}

test.serial('xz: damaged files are refused or served', async (t) => {
  if (!canRun(t, 'xz')) return;
  const raw = await rawFile(await tempDir(t), 'disk', mixedDisk(6, 2 * MIB));
  await run('xz', ['--block-size=256KiB', '-0', raw]);
  const { length } = await readFile(`${raw}.xz`);
  await survivesMutations(t, graphWith(t, ...ALL), {
    driver: 'xz',
    seed: seed(83),
    path: `${raw}.xz`,
    tables: [
      [0, 200],
      [length - 100, length],
      [0, length],
    ],
    writable: false,
  });
});
