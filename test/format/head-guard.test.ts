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
  const node = await graph.openImage(path, format, {});
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

test('every format that is known by its first bytes is in this list', (t) => {
  const byTailOrName = new Set(['split']);
  const known = DRIVERS.filter((driver) => driver.probe !== undefined && !byTailOrName.has(driver.name));
  t.deepEqual(known.map(({ name }) => name).sort(), [...new Set(MAGICS.map(({ driver }) => driver))].sort());
});
