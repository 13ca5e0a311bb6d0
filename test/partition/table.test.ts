import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { Child } from '../../src/block/child.ts';
import { readPartitionTable } from '../../src/partition/table.ts';
import type { PartitionTable } from '../../src/partition/table.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { openRoot, testGraph } from '../helpers/graph.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, tool } from '../helpers/tools.ts';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;

async function diskOf(t: ExecutionContext, script?: string): Promise<{ disk: Child; path: string }> {
  const path = join(await tempDir(t), 'disk');
  writeFileSync(path, '');
  truncateSync(path, SIZE);
  if (script !== undefined) {
    execFileSync(tool('sfdisk'), ['-q', path], {
      input: script,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
  }
  const disk = await openRoot(testGraph(t, [fileDriver]), { driver: 'file', filename: path }, 3);
  return { disk, path };
}

const places = (table: PartitionTable | undefined): unknown =>
  table?.partitions.map(({ number, offset, length }) => [number, offset, length]);

test('GPT: places, names and types as sfdisk made them', async (t) => {
  if (!canRun(t, 'sfdisk')) return;
  const { disk } = await diskOf(
    t,
    'label: gpt\nstart=1MiB,size=10MiB,name=größe\nstart=20MiB,size=8MiB,type=U\n',
  );
  const table = await readPartitionTable(disk);
  t.is(table?.sectorSize, 512);
  t.deepEqual(places(table), [
    [1, MIB, 10 * MIB],
    [2, 20 * MIB, 8 * MIB],
  ]);
  t.is(table?.partitions[0]?.name, 'größe');
  t.is(table?.partitions[1]?.typeName, 'EFI system');
  t.deepEqual(table?.warnings, []);
});

test('GPT of a disk with sectors of 4096 bytes', async (t) => {
  const { disk } = await diskOf(t);
  const entries = Buffer.alloc(128 * 128, 0);
  Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex').copy(entries);
  entries.writeBigUInt64LE(256n, 32);
  entries.writeBigUInt64LE(511n, 40);
  const header = Buffer.alloc(92);
  header.write('EFI PART', 'latin1');
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(crc32(entries), 88);
  header.writeUInt32LE(crc32(header), 16);
  await disk.write(header, 4096);
  await disk.write(entries, 8192);
  const table = await readPartitionTable(disk);
  t.is(table?.sectorSize, 4096);
  t.deepEqual(places(table), [[1, MIB, MIB]]);
  t.is(table?.partitions[0]?.typeName, 'Linux filesystem');
});

test('GPT with a damaged primary: the backup is used and told of', async (t) => {
  if (!canRun(t, 'sfdisk')) return;
  const { disk } = await diskOf(t, 'label: gpt\nstart=1MiB,size=10MiB\n');
  await disk.write(Buffer.alloc(16, 0xff), 520);
  const table = await readPartitionTable(disk);
  t.deepEqual(places(table), [[1, MIB, 10 * MIB]]);
  t.regex(table?.warnings.join() ?? '', /backup/);
});

test('MBR with logical partitions is numbered as Linux does', async (t) => {
  if (!canRun(t, 'sfdisk')) return;
  const script =
    'label: dos\nstart=1MiB,size=4MiB\nstart=8MiB,size=40MiB,type=5\nstart=10MiB,size=5MiB\nstart=20MiB,size=6MiB,type=82\n';
  const { disk } = await diskOf(t, script);
  const table = await readPartitionTable(disk);
  const logical = table?.partitions.filter(({ extended }) => !extended);
  t.deepEqual(
    logical?.map(({ number, offset }) => [number, offset]),
    [
      [1, MIB],
      [5, 10 * MIB],
      [6, 20 * MIB],
    ],
  );
});

test('a loop of extended partitions ends', async (t) => {
  const { disk } = await diskOf(t);
  await disk.write(bootRecord([[0x05, 2048, 4096]]), 0);
  await disk.write(
    bootRecord([
      [0x83, 2, 8],
      [0x05, 0, 4096],
    ]),
    2048 * 512,
  );
  const table = await readPartitionTable(disk);
  t.regex(table?.warnings.join() ?? '', /loop/);
  t.is(table?.partitions.length, 2);
});

test('partitions outside the disk are dropped, those across its end cut, overlaps told', async (t) => {
  const { disk } = await diskOf(t);
  const sectors = SIZE / 512;
  await disk.write(
    bootRecord([
      [0x83, 2048, 4096],
      [0x83, 4096, 8192],
      [0x83, sectors - 8, 4096],
      [0x83, 2 ** 31, 8],
    ]),
    0,
  );
  const table = await readPartitionTable(disk);
  t.deepEqual(places(table), [
    [1, MIB, 2 * MIB],
    [2, 2 * MIB, 4 * MIB],
    [3, SIZE - 4096, 4096],
  ]);
  t.is(table?.warnings.length, 3);
});

test('no table: an empty disk, and a FAT boot sector', async (t) => {
  const { disk } = await diskOf(t);
  t.is(await readPartitionTable(disk), undefined);
  const boot = Buffer.alloc(512, 0x41);
  boot.writeUInt16LE(0xaa55, 510);
  await disk.write(boot, 0);
  t.is(await readPartitionTable(disk), undefined);
});

test('a GPT header that asks for gigabytes of entries is no table', async (t) => {
  const { disk } = await diskOf(t);
  const header = Buffer.alloc(512);
  header.write('EFI PART', 'latin1');
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(0xffff_ffff, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(crc32(header.subarray(0, 92)), 16);
  await disk.write(header, 512);
  t.is(await readPartitionTable(disk), undefined);
});

/** A boot record with entries of [type, first sector, sectors]. */
function bootRecord(entries: readonly (readonly [number, number, number])[]): Buffer {
  const sector = Buffer.alloc(512);
  for (const [index, [type, first, sectors]] of entries.entries()) {
    sector.writeUInt8(type, 446 + index * 16 + 4);
    sector.writeUInt32LE(first, 446 + index * 16 + 8);
    sector.writeUInt32LE(sectors, 446 + index * 16 + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}
