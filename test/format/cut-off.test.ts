/**
 * A file that was cut off has tables that name places behind its end. Nothing may be put there: it would belong to two
 * ranges of the disk. What needs no new place can still be written.
 */
import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { hosted } from './vmdk-hosted.ts';
import { hold, MIB, rawFile, release } from './small-image.ts';

const DISK = Buffer.alloc(32 * MIB);
DISK.fill(0x41, 0, 8 * MIB);
DISK.fill(0x42, 20 * MIB, 28 * MIB);
const NEW = 0x58;

for (const [format, ...options] of [
  ['vmdk'],
  ['vdi'],
  ['vpc', 'force_size=on'],
  ['vhdx', 'block_size=1M'],
  ['qcow'],
  ['qed'],
  ['parallels', 'cluster_size=64k'],
] as const) {
  test(`${format}: a file that was cut off is not grown over what its tables name`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const raw = await rawFile(folder, 'disk.raw', DISK);
    const path = join(folder, `disk.${format}`);
    const create = options.flatMap((option) => ['-o', option]);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...create, raw, path]);
    const { size } = await stat(path);
    await truncate(path, Math.floor(size * 0.6) - 512 * 77);
    const image = { driver: format, file: { driver: 'file', filename: path } };
    const graph = new Graph({ drivers: DRIVERS });
    t.teardown(() => graph.close());
    const error = await t.throwsAsync(
      async () => {
        const disk = await hold(graph, image);
        try {
          await disk.write(Buffer.alloc(MIB, NEW), 10 * MIB);
        } finally {
          await release(graph, disk);
        }
      },
      { instanceOf: BlockError },
    );
    t.regex(
      error.message,
      /inside the file|inside a file|it was cut off; it can be opened with read-only=on/,
    );
    const before = await readFile(path);
    const disk = await hold(graph, { ...image, 'read-only': true });
    const piece = Buffer.alloc(4096);
    for (let at = 0; at < DISK.length; at += 512 * 1024) {
      const got = await disk.read(piece, at).then(
        () => piece[0],
        (failure: BlockError) => failure.code,
      );
      t.true(got === DISK[at] || got === 'EIO' || got === 0, `${at}: ${got}`);
    }
    await release(graph, disk);
    t.true(before.equals(await readFile(path)));
  });
}

test('vmdk: new grains are put behind the last one when the file ends in the middle of it', async (t) => {
  const folder = await tempDir(t);
  const descriptor =
    '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\nRW 1024 SPARSE "a.vmdk"\n';
  const content = Buffer.alloc(512 * 1024);
  content.fill(0x41, 0, 128 * 1024);
  const shape = { grainSectors: 128, tableEntries: 512, redundant: false, gap: 3, descriptor };
  const bytes = hosted(content, shape);
  const path = await rawFile(folder, 'a.vmdk', bytes.subarray(0, bytes.length - 512 * 30));
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const disk = await hold(graph, { driver: 'vmdk', file: { driver: 'file', filename: path } });
  await disk.write(Buffer.alloc(65_536, NEW), 200 * 1024);
  const old = Buffer.alloc(128 * 1024);
  await disk.read(old, 0);
  t.false(old.includes(NEW));
  await release(graph, disk);
});

test('qcow: tables that lie over one another are not read again and again, nor written to', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const path = join(await tempDir(t), 'disk.qcow');
  await run('qemu-img', ['create', '-q', '-f', 'qcow', path, '8G']);
  await run('qemu-io', ['-f', 'qcow', '-c', 'write 0 4k', path]);
  const bytes = await readFile(path);
  const l1 = Number(bytes.readBigUInt64BE(40));
  for (let entry = 1; entry < 4096; entry += 1) bytes.copy(bytes, l1 + entry * 8, l1, l1 + 8);
  await writeFile(path, bytes);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const disk = await hold(graph, { driver: 'qcow', file: { driver: 'file', filename: path } });
  const message = /more tables than the file of \d+ bytes has room for/;
  await t.throwsAsync(disk.write(Buffer.alloc(4096, NEW), MIB), { code: 'EIO', message });
  const piece = Buffer.alloc(4096);
  await disk.read(piece, 0);
  t.is(piece[0], 0xcd);
  await release(graph, disk);
});
