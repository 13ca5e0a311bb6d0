import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { dmgDriver } from '../../drivers/format/dmg/driver.ts';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { attempt, run } from '../helpers/run.ts';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { deflateSync } from 'node:zlib';
import { difference } from '../helpers/model-disk.ts';
import { seed } from '../helpers/random.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { buildDmg, buildParts, Type } from './dmg-images.ts';
import type { Piece } from './dmg-images.ts';
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

const SAMPLE_HASH = '0786ad1fdcba31a3f03ee80eb1d6e8c7ee2f4647a2b4b6f1855c9fe0719784de';
for (const name of ['udif-compression-zlib.dmg', 'udif-compression-lzfse.dmg']) {
  test(`dmg: the sample ${name} has its guest hash`, async (t) => {
    const bytes = sample(t, name);
    if (bytes === undefined) return;
    const path = await rawFile(await tempDir(t), name, bytes);
    const child = await holdImage(graphWith(t, dmgDriver), path);
    t.is(child.node.driver.name, 'dmg');
    t.is(sha256(await readAll(child)), SAMPLE_HASH);
    t.is(sha256(await readAll(child, 4096)), SAMPLE_HASH);
  });
}

/** How often the byte before `at` is repeated from there on, 66 times at most. */
function runOfLast(plain: Buffer, at: number): number {
  let end = at;
  while (at > 0 && end < at + 66 && end < plain.length && plain[end] === plain[at - 1]) end += 1;
  return end - at;
}

/** Apple Data Compression by the simplest means: literals, and matches of the byte before. */
function packAdc(plain: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < plain.length;) {
    const run = runOfLast(plain, at);
    if (run >= 4) {
      parts.push(Buffer.from([0x40 | (run - 4), 0, 0]));
      at += run;
    } else if (run === 3) {
      parts.push(Buffer.from([0, 0]));
      at += 3;
    } else {
      const length = Math.min(128, plain.length - at, 5);
      parts.push(Buffer.from([0x80 | (length - 1)]), plain.subarray(at, at + length));
      at += length;
    }
  }
  return Buffer.concat(parts);
}

async function packWith(
  folder: string,
  tool: string,
  args: readonly string[],
  plain: Buffer,
): Promise<Buffer> {
  const path = await rawFile(folder, `chunk-${tool}`, plain);
  await run(tool, ['-k', '-f', ...args, path]);
  return readFile(`${path}.${tool === 'bzip2' ? 'bz2' : tool}`);
}

async function makePieces(folder: string, disk: Buffer): Promise<Piece[]> {
  const step = 256 * 1024;
  const pieces: Piece[] = [];
  for (let at = 0; at < disk.length; at += step) {
    const plain = disk.subarray(at, at + step);
    const sectors = plain.length / 512;
    const none = Buffer.alloc(0);
    const makers: (() => Promise<Piece> | Piece)[] = [
      () => ({ type: Type.raw, sectors, packed: plain, plain }),
      () => ({ type: Type.zlib, sectors, packed: deflateSync(plain), plain }),
      async () => ({ type: Type.bzip2, sectors, packed: await packWith(folder, 'bzip2', [], plain), plain }),
      async () => ({
        type: Type.lzma,
        sectors,
        packed: await packWith(folder, 'xz', ['--check=crc32'], plain),
        plain,
      }),
      () => ({ type: Type.adc, sectors, packed: packAdc(plain), plain }),
    ];
    const isZero = plain.every((byte) => byte === 0);
    const zero = { type: pieces.length % 2 === 0 ? Type.zero : Type.ignore, sectors, packed: none, plain };
    pieces.push(isZero ? zero : await (makers[pieces.length % makers.length] ?? (() => zero))());
  }
  return pieces;
}

function testDisk(): Buffer {
  const disk = mixedDisk(5, 8 * MIB);
  disk.fill(0, MIB, MIB * 1.5);
  disk.fill(0, 3 * MIB, 3 * MIB + 256 * 1024);
  return disk;
}

for (const asFork of [false, true]) {
  test(`dmg: all ways of packing but LZFSE are read, tables in ${asFork ? 'a resource fork' : 'a property list'}`, async (t) => {
    if (!canRun(t, 'bzip2', 'xz')) return;
    const folder = await tempDir(t);
    const disk = testDisk();
    const path = await rawFile(folder, 'a.dmg', buildDmg(await makePieces(folder, disk), asFork));
    const child = await holdImage(graphWith(t, dmgDriver), path);
    t.is(difference(await readAll(child), disk), undefined);
    t.is(difference(await readAll(child, 70_001), disk), undefined);
  });
}

test('dmg: 7-Zip reads the same from an image built here', async (t) => {
  if (!canRun(t, 'bzip2', 'xz', '7zz')) return;
  const folder = await tempDir(t);
  const disk = testDisk();
  const path = await rawFile(folder, 'a.dmg', buildDmg(await makePieces(folder, disk)));
  await run('7zz', ['x', '-y', `-o${join(folder, 'out')}`, path]);
  const { stdout } = await attempt('find', [join(folder, 'out'), '-type', 'f']);
  const [file = ''] = stdout.trim().split('\n');
  t.is(difference(await readFile(file), disk), undefined);
});

/** The pieces of a disk as five partitions, the third of which is empty. */
async function makeParts(folder: string, disk: Buffer): Promise<Piece[][]> {
  const pieces = await makePieces(folder, disk);
  return [pieces.slice(0, 3), pieces.slice(3, 4), [], pieces.slice(4, 20), pieces.slice(20)];
}

for (const asFork of [false, true]) {
  test(`dmg: several partitions are one disk, as 7-Zip has them, tables in a ${asFork ? 'fork' : 'list'}`, async (t) => {
    if (!canRun(t, 'bzip2', 'xz', '7zz')) return;
    const folder = await tempDir(t);
    const disk = testDisk();
    const path = await rawFile(folder, 'a.dmg', buildParts(await makeParts(folder, disk), asFork));
    const child = await holdImage(graphWith(t, dmgDriver), path);
    t.is(difference(await readAll(child), disk), undefined);
    const result = await dmgDriver.check?.(child.node.impl, { repair: 'none' });
    t.deepEqual(result?.messages, []);
    if (asFork) return;
    await run('7zz', ['x', '-y', `-o${join(folder, 'out')}`, path]);
    const names = (await readdir(join(folder, 'out'))).sort(
      (a, b) => Number.parseInt(a) - Number.parseInt(b),
    );
    const files = await Promise.all(names.map((name) => readFile(join(folder, 'out', name))));
    t.is(difference(Buffer.concat(files), disk), undefined);
  });
}

for (const name of ['udif-compression-zlib.dmg', 'udif-compression-lzfse.dmg']) {
  test(`dmg: the checksums of ${name} are right`, async (t) => {
    const bytes = sample(t, name);
    if (bytes === undefined) return;
    const child = await holdImage(graphWith(t, dmgDriver), await rawFile(await tempDir(t), 'a.dmg', bytes));
    const result = await dmgDriver.check?.(child.node.impl, { repair: 'none' });
    t.deepEqual([result?.corruptions, result?.messages], [0, []]);
    t.true((result?.compressedClusters ?? 0) > 0);
  });
}

test('dmg: check says which checksum is not right, and what a chunk can not be unpacked for', async (t) => {
  if (!canRun(t, 'bzip2', 'xz')) return;
  const folder = await tempDir(t);
  const good = buildParts(await makeParts(folder, testDisk()));
  const messages = async (bytes: Buffer): Promise<string> => {
    const warnings: string[] = [];
    const graph = new Graph({ drivers: DRIVERS, warn: (text) => void warnings.push(text) });
    t.teardown(() => graph.close());
    const child = await holdImage(graph, await rawFile(folder, 'b.dmg', bytes), 'dmg');
    const result = await dmgDriver.check?.(child.node.impl, { repair: 'none' });
    return [...(result?.messages ?? []), ...warnings].join('; ');
  };
  t.is(await messages(good), '');
  const damaged = Buffer.from(good);
  damaged[100] = (damaged[100] ?? 0) ^ 1;
  const said = await messages(damaged);
  t.regex(said, /the checksum of the stored data is 0x[0-9a-f]+, must be 0x/);
  t.regex(said, /the checksum of block table 0 is 0x[0-9a-f]+, must be 0x/);
  t.notRegex(said, /table 1|master/);
  const broken = Buffer.from(good).fill(0xff, 256 * 1024 + 20, 256 * 1024 + 40);
  t.regex(await messages(broken), /the zlib chunk at 262144: /);
  const mastered = Buffer.from(good);
  mastered.writeUInt32BE(7, good.length - 512 + 360);
  t.regex(await messages(mastered), /^the master checksum is 0x7, must be .*dmg ".*": the master checksum/);
});

async function refusal(t: ExecutionContext, bytes: Buffer): Promise<string> {
  const path = join(await tempDir(t), 'a.dmg');
  await writeFile(path, bytes);
  const error = await t.throwsAsync(holdImage(graphWith(t, dmgDriver), path));
  return error.message;
}

test('dmg: what is not supported is refused by name', async (t) => {
  t.regex(
    await refusal(t, Buffer.concat([Buffer.from('encrcdsa'), Buffer.alloc(4096)])),
    /the image is encrypted/,
  );
  const good = buildDmg([{ type: Type.raw, sectors: 8, packed: Buffer.alloc(4096, 1) }]);
  const segmented = Buffer.from(good);
  segmented.writeUInt32BE(3, good.length - 512 + 60);
  t.regex(await refusal(t, segmented), /cut into 3 segments, which is not supported/);
  const odd = buildDmg([{ type: 0x80000009, sectors: 8, packed: Buffer.alloc(512, 1) }]);
  t.regex(await refusal(t, odd), /type 0x80000009, which is not supported/);
  const huge = buildDmg([{ type: Type.zlib, sectors: 2 ** 20, packed: Buffer.alloc(512, 1) }]);
  t.regex(await refusal(t, huge), /536870912 bytes, must have at most 67108864/);
});

test.serial('dmg: damaged images are refused or served', async (t) => {
  if (!canRun(t, 'bzip2', 'xz')) return;
  const folder = await tempDir(t);
  const bytes = buildDmg(await makePieces(folder, testDisk().subarray(0, 3 * MIB)), true);
  const path = await rawFile(folder, 'a.dmg', bytes);
  const tables = [
    [bytes.length - 512, bytes.length - 280],
    [bytes.length - 20, bytes.length],
    [bytes.length - 512 - 500, bytes.length - 512],
    [0, 400_000],
  ] as const;
  await survivesMutations(t, graphWith(t, dmgDriver), {
    driver: 'dmg',
    seed: seed(61),
    path,
    tables,
    writable: false,
  });
});

test.serial('dmg: a damaged LZFSE image is refused or served', async (t) => {
  const bytes = sample(t, 'udif-compression-lzfse.dmg');
  if (bytes === undefined) return;
  const path = await rawFile(await tempDir(t), 'a.dmg', bytes);
  await survivesMutations(t, graphWith(t, dmgDriver), {
    driver: 'dmg',
    seed: seed(62),
    path,
    tables: [[0, 0x1700]],
    writable: false,
  });
});
