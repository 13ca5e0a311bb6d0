/** Tables as strangers make them, mounted: names, overlaps, loops, a damaged primary; what is wrong is told and hurts nobody. */
import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { mapFile } from '../helpers/mapping.ts';
import { mountImage } from '../helpers/mounted.ts';
import type { MountedImage } from '../helpers/mounted.ts';
import { blockfuse } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { getxattr } from '../mount/fixtures/calls.ts';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;

async function emptyDisk(t: ExecutionContext): Promise<string> {
  const raw = join(await tempDir(t), 'disk.raw');
  await writeFile(raw, '');
  await truncate(raw, SIZE);
  return raw;
}

const folderOf = ({ mountpoint }: MountedImage): string => join(mountpoint, 'disk.partitions');

/** Puts entries of [type, first sector, sectors] into a boot record. */
async function writeBootRecord(
  raw: string,
  sector: number,
  entries: readonly (readonly [number, number, number])[],
): Promise<void> {
  const bytes = Buffer.alloc(512);
  for (const [index, [type, first, sectors]] of entries.entries()) {
    bytes.writeUInt8(type, 446 + index * 16 + 4);
    bytes.writeUInt32LE(first, 446 + index * 16 + 8);
    bytes.writeUInt32LE(sectors, 446 + index * 16 + 12);
  }
  bytes.writeUInt16LE(0xaa55, 510);
  const handle = await open(raw, 'r+');
  await handle.write(bytes, 0, 512, sector * 512);
  await handle.close();
}

test('names, types and places are attributes of the files, and stand in info', async (t) => {
  if (!canRun(t, 'sfdisk')) return;
  const raw = await emptyDisk(t);
  const input = 'label: gpt\nstart=1MiB,size=10MiB,name=größe\nstart=20MiB,size=8MiB,type=U\n';
  await run('sfdisk', ['-q', raw], { input });
  const { stdout } = await blockfuse(['info', '--json', '-f', 'raw', raw]);
  const table = (JSON.parse(stdout) as { 'partition-table': { partitions: Record<string, unknown>[] } })[
    'partition-table'
  ];
  t.like(table, { scheme: 'gpt', 'sector-size': 512, warnings: [] });
  t.like(table.partitions[0], { number: 1, offset: MIB, length: 10 * MIB, name: 'größe' });
  t.like(table.partitions[1], { number: 2, 'type-name': 'EFI system' });
  const folder = folderOf(await mountImage(t, raw, ['--format', 'raw', '--node-name', 'disk']));
  const first = (name: string): string => getxattr(join(folder, '1.raw'), `user.blockfuse.${name}`);
  t.deepEqual(['name', 'type-name', 'offset', 'size'].map(first), [
    'größe',
    'Linux filesystem',
    String(MIB),
    String(10 * MIB),
  ]);
  t.is(getxattr(join(folder, '2.raw'), 'user.blockfuse.type-name'), 'EFI system');
});

test('partitions that overlap are told of, and show each other’s writes, mapped ones too', async (t) => {
  const raw = await emptyDisk(t);
  await writeBootRecord(raw, 0, [
    [0x83, 2048, 8192],
    [0x83, 4096, 8192],
    [0x83, SIZE / 512 - 8, 4096],
    [0x83, 2 ** 31, 8],
  ]);
  const { stderr } = await blockfuse(['info', '-f', 'raw', raw]);
  t.regex(stderr, /partition 2 overlaps partition 1/);
  t.regex(stderr, /partition 3 is cut at the end of the disk/);
  t.regex(stderr, /partition 4 .*lies outside the disk/);
  const folder = folderOf(await mountImage(t, raw, ['--format', 'raw', '--node-name', 'disk']));
  t.deepEqual(await readdir(folder), ['1.raw', '2.raw', '3.raw']);
  t.is((await stat(join(folder, '3.raw'))).size, 4096);
  const [one, two] = [await open(join(folder, '1.raw'), 'r+'), await open(join(folder, '2.raw'), 'r+')];
  const mapped = mapFile(t, two.fd, MIB);
  t.is(mapped.bytes[0], 0);
  await one.write(Buffer.alloc(4096, 7), 0, 4096, MIB);
  t.is(mapped.bytes[0], 7);
  await two.write(Buffer.alloc(4096, 8), 0, 4096, 0);
  const seen = Buffer.alloc(1);
  await one.read(seen, 0, 1, MIB);
  t.is(seen[0], 8);
  mapped.unmap();
  await one.close();
  await two.close();
});

test('a chain of logical partitions that is a loop ends, and the disk is mounted', async (t) => {
  const raw = await emptyDisk(t);
  await writeBootRecord(raw, 0, [[0x05, 2048, 65_536]]);
  await writeBootRecord(raw, 2048, [
    [0x83, 2, 64],
    [0x05, 0, 65_536],
  ]);
  const { stderr } = await blockfuse(['info', '-f', 'raw', raw]);
  t.regex(stderr, /loop/);
  const folder = folderOf(await mountImage(t, raw, ['--format', 'raw', '--node-name', 'disk']));
  t.deepEqual(await readdir(folder), ['5.raw']);
});

test('the primary table may be lost while mounted: the backup at the end stands in', async (t) => {
  if (!canRun(t, 'sfdisk')) return;
  const raw = await emptyDisk(t);
  await run('sfdisk', ['-q', raw], { input: 'label: gpt\nstart=1MiB,size=10MiB\n' });
  const mounted = await mountImage(t, raw, ['--format', 'raw', '--node-name', 'disk']);
  const folder = folderOf(mounted);
  t.deepEqual(await readdir(folder), ['1.raw']);
  const handle = await open(mounted.file, 'r+');
  await handle.write(Buffer.alloc(512, 0xff), 0, 512, 512);
  await handle.datasync();
  t.deepEqual(await readdir(folder), ['1.raw']);
  t.is((await readFile(join(folder, '1.raw'))).length, 10 * MIB);
  // Both gone: the partition is, too, though the kernel writes past the server.
  await handle.write(Buffer.alloc(MIB), 0, MIB, 0);
  await handle.write(Buffer.alloc(MIB), 0, MIB, SIZE - MIB);
  await handle.close();
  await t.throwsAsync(stat(join(folder, '1.raw')), { code: 'ENOENT' });
  await t.throwsAsync(readdir(folder), { code: 'ENOENT' });
});
