/** A disk that is raw only because nothing was recognised does not become an image of a format by what is written to it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { buildDmg } from './dmg-images.ts';
import { MIB } from './small-image.ts';
import { cowd } from './vmdk-fixtures.ts';

const HEAD = 4096;

/** The first bytes of an image that `create` makes. */
async function createdHead(t: ExecutionContext, format: string, options = {}): Promise<Buffer> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const filename = join(await tempDir(t), 'disk.image');
  await createImage(graph, { filename, format, size: 4 * MIB, options });
  return readFile(filename);
}

const bytesOf = (...parts: (string | number[])[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))),
  );

interface Magic {
  readonly title: string;
  readonly driver: string;
  readonly head: (t: ExecutionContext) => Promise<Buffer | undefined>;
}

const made = (title: string, driver: string, options = {}): Magic => ({
  title,
  driver,
  head: (t) => createdHead(t, driver, options),
});
const fixed = (title: string, driver: string, bytes: Buffer): Magic => ({
  title,
  driver,
  head: () => Promise.resolve(bytes),
});

const MAGICS: readonly Magic[] = [
  ...['qcow2', 'qcow', 'qed', 'vdi', 'vmdk', 'vpc', 'vhdx', 'parallels'].map((name) => made(name, name)),
  made('vmdk descriptor', 'vmdk', { subformat: 'monolithicFlat' }),
  made('parallels-hdd', 'parallels-hdd'),
  fixed(
    'vmdk descriptor behind comments',
    'vmdk',
    bytesOf(`# ${'x'.repeat(60)}\n`.repeat(20), '# Disk DescriptorFile\n'),
  ),
  fixed('vmfsSparse', 'vmdk', cowd(Buffer.alloc(MIB), { grainSectors: 128 })),
  fixed('luks', 'luks', bytesOf('LUKS', [0xba, 0xbe, 0, 1])),
  fixed('gzip', 'gzip', bytesOf([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3])),
  fixed('xz', 'xz', bytesOf([0xfd], '7zXZ', [0, 0, 4])),
  fixed('zstd', 'zstd', bytesOf([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0])),
  { title: 'bochs', driver: 'bochs', head: (t) => Promise.resolve(sample(t, 'bximage-growing.bochs')) },
  { title: 'cloop', driver: 'cloop', head: (t) => Promise.resolve(sample(t, 'create_compressed_fs.cloop')) },
  fixed('encrypted dmg', 'dmg', bytesOf('encrcdsa', [0, 0, 0, 2])),
];

async function openRaw(t: ExecutionContext, format?: string): Promise<{ disk: Child; path: string }> {
  const path = join(await tempDir(t), 'disk.img');
  await writeFile(path, Buffer.alloc(4 * MIB));
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(path, format, { discard: 'unmap' });
  return { disk: graph.attachRoot(node, { name: 'test', label: 'the test', used: 15 }), path };
}

for (const { title, driver, head } of MAGICS) {
  test(`${title}: its magic is not written to a probed raw disk, whole or in parts`, async (t) => {
    const bytes = await head(t);
    if (bytes === undefined) return;
    const magic = Buffer.alloc(HEAD);
    bytes.copy(magic);
    const refusal = { code: 'EPERM', message: new RegExp(`into an? ${driver} image; say --format raw`) };
    const { disk, path } = await openRaw(t);
    await t.throwsAsync(disk.write(magic, 0), refusal);
    t.false(disk.tryWrite(magic, 0, HEAD, 0));
    // The second part, then the first, sector by sector and across a sector's border; then byte by byte.
    for (const border of [1, 3, 7, 66, 511, 600]) {
      const { disk: parts } = await openRaw(t);
      const writes = async (): Promise<void> => {
        await parts.write(magic.subarray(border), border);
        await parts.write(magic.subarray(0, border), 0);
      };
      await t.throwsAsync(writes(), refusal);
    }
    for (let at = 127; at >= 0; at -= 1) {
      const refused = await disk.write(magic.subarray(at, at + 1), at).then(
        () => false,
        () => true,
      );
      if (refused) break;
    }
    const found = await readFile(path);
    t.not(
      DRIVERS.find(({ name }) => name === driver)?.probe?.(found, '', Buffer.alloc(0), found.length),
      100,
    );
    const { disk: named } = await openRaw(t, 'raw');
    await t.notThrowsAsync(named.write(magic, 0));
  });
}

const last = (title: string, driver: string, bytes: (t: ExecutionContext) => Promise<Buffer>): Magic => ({
  title,
  driver,
  head: async (t) => (await bytes(t)).subarray(-512),
});

/** What a format is known by at the end of its file. */
const ENDS: readonly Magic[] = [
  last('fixed vpc', 'vpc', (t) => createdHead(t, 'vpc', { subformat: 'fixed' })),
  last('dmg', 'dmg', () => Promise.resolve(buildDmg([]))),
  last('encrypted dmg', 'dmg', () => Promise.resolve(bytesOf(Array<number>(504).fill(0), 'cdsaencr'))),
];

for (const { title, driver, head } of ENDS) {
  test(`${title}: its magic does not get to the end of a probed raw disk, by writes or a new size`, async (t) => {
    const magic = await head(t);
    if (magic === undefined) return;
    const refusal = { code: 'EPERM', message: new RegExp(`into an? ${driver} image; say --format raw`) };
    const { disk, path } = await openRaw(t);
    const end = 4 * MIB - magic.length;
    await t.throwsAsync(disk.write(magic, end), refusal);
    t.false(disk.tryWrite(magic, 0, magic.length, end));
    await t.throwsAsync(disk.write(Buffer.concat([Buffer.alloc(MIB, 1), magic]), end - MIB), refusal);
    for (const border of [1, 3, 7, 66, 510]) {
      const { disk: parts } = await openRaw(t);
      const writes = [
        parts.write(magic.subarray(border), end + border),
        parts.write(magic.subarray(0, border), end),
      ];
      const outcomes = await Promise.allSettled(writes);
      t.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    }
    await t.throwsAsync(disk.write(magic, 4 * MIB), refusal, 'behind the end');
    await disk.resize(4 * MIB, true);
    await disk.write(magic, 2 * MIB);
    await t.throwsAsync(disk.resize(2 * MIB + magic.length, true), refusal);
    t.is(disk.size, 4 * MIB);
    await disk.write(Buffer.alloc(magic.length, 1), end);
    t.is((await readFile(path)).length, 4 * MIB);
    const { disk: named } = await openRaw(t, 'raw');
    await t.notThrowsAsync(named.write(magic, end));
  });
}

test('zeroes and two writes at once do not complete a magic', async (t) => {
  const refusal = { code: 'EPERM', message: /into a xz image/ };
  const { disk } = await openRaw(t);
  await disk.write(bytesOf([0xfd], '7zXZ', [7]), 0);
  await t.throwsAsync(disk.writeZeroes(5, 1), refusal);
  await t.throwsAsync(disk.discard(5, 1), refusal);
  await disk.write(Buffer.alloc(8), 0);
  const outcomes = await Promise.allSettled([
    disk.write(bytesOf([0xfd], '7z'), 0),
    disk.write(bytesOf('XZ', [0]), 3),
  ]);
  t.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
});

test('what probing would look at is guarded where it is: in the first part of a split disk', async (t) => {
  const folder = await tempDir(t);
  for (const name of ['disk.001', 'disk.002']) await writeFile(join(folder, name), Buffer.alloc(MIB));
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(join(folder, 'disk.001'), undefined, {});
  t.is(node.driver.name, 'split');
  const disk = graph.attachRoot(node, { name: 'test', label: 'the test', used: 15 });
  const footer = await createdHead(t, 'vpc', { subformat: 'fixed' });
  await t.throwsAsync(disk.write(footer.subarray(-512), MIB - 512), { code: 'EPERM' });
  await t.notThrowsAsync(disk.write(footer.subarray(-512), 2 * MIB - 512), 'nobody probes the second part');
});

test('every format that is known by its first bytes is in this list', (t) => {
  const byTailOrName = new Set(['split']);
  const known = DRIVERS.filter((driver) => driver.probe !== undefined && !byTailOrName.has(driver.name));
  t.deepEqual(known.map(({ name }) => name).sort(), [...new Set(MAGICS.map(({ driver }) => driver))].sort());
});
