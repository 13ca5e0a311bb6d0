/** VMDK files built from the specification's tables, where no tool writes them. Nothing here uses the driver's code; and other programs as judges. */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Graph } from '../../src/block/graph.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { holdImage, rawFile, release } from './small-image.ts';

const SECTOR = 512;

/** The text of a descriptor with these extent lines. */
export function descriptor(
  createType: string,
  lines: readonly string[],
  more: readonly string[] = [],
): string {
  const parent = more.some((line) => line.startsWith('parentCID')) ? [] : ['parentCID=ffffffff'];
  return [
    '# Disk DescriptorFile',
    'version=1',
    'CID=12345678',
    ...parent,
    ...more,
    `createType="${createType}"`,
    '',
    '# Extent description',
    ...lines,
    '',
    '# The Disk Data Base',
    '#DDB',
    'ddb.adapterType = "lsilogic"',
    'ddb.longContentID = "0123456789abcdef0123456712345678"',
    '',
  ].join('\n');
}

export async function writeDescriptor(folder: string, name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

interface CowdShape {
  readonly grainSectors: number;
  /** Sectors between the end of what is used and the end of the file, as VMFS leaves them. */
  readonly slack?: number;
}

/** "ESX Server Sparse Extents": grains of `disk` that are not all zeroes are stored, in an order of the dice's choosing. */
export function cowd(disk: Buffer, shape: CowdShape): Buffer {
  const { grainSectors } = shape;
  const grain = grainSectors * SECTOR;
  const entries = Math.ceil(disk.length / (grain * 4096));
  const directorySectors = Math.ceil((entries * 4) / SECTOR);
  const header = Buffer.alloc(2048);
  header.write('COWD', 0, 'latin1');
  header.writeUInt32LE(1, 4);
  header.writeUInt32LE(3, 8);
  header.writeUInt32LE(disk.length / SECTOR, 12);
  header.writeUInt32LE(grainSectors, 16);
  header.writeUInt32LE(4, 20);
  header.writeUInt32LE(entries, 24);
  const directory = Buffer.alloc(directorySectors * SECTOR);
  const body: Buffer[] = [];
  let next = 4 + directorySectors;
  for (let index = 0; index < entries; index += 1) {
    const stored = storedGrains(disk, grain, index * 4096, 4096);
    if (stored.length === 0) continue;
    const table = Buffer.alloc(4096 * 4);
    directory.writeUInt32LE(next, index * 4);
    body.push(table);
    next += 32;
    for (const number of shuffled(stored)) {
      table.writeUInt32LE(next, (number % 4096) * 4);
      body.push(padded(disk.subarray(number * grain, (number + 1) * grain), grain));
      next += grainSectors;
    }
  }
  header.writeUInt32LE(next, 28);
  return Buffer.concat([header, directory, ...body, Buffer.alloc((shape.slack ?? 0) * SECTOR)]);
}

/** seSparse, as vSphere 6.5 writes snapshots. `zeroed` and `unmapped`: grains entered as such. */
export function seSparse(
  disk: Buffer,
  zeroed: readonly number[] = [],
  unmapped: readonly number[] = [],
): Buffer {
  const grain = 4096;
  const grains = Math.ceil(disk.length / grain);
  const tables = Math.ceil(grains / 4096);
  const tablesAt = 16;
  const grainsAt = tablesAt + (tables + 2) * 64;
  const fields: readonly [at: number, value: bigint][] = [
    [0, 0xcafebaben],
    [8, 0x200000001n],
    [16, BigInt(disk.length / SECTOR)],
    [24, 8n],
    [32, 64n],
    [80, 1n],
    [88, 1n],
    [96, 2n],
    [104, 2n],
    [112, 4n],
    [120, 4n],
    [128, 8n],
    [136, 8n],
    [144, BigInt(tablesAt)],
    [152, BigInt((tables + 2) * 64)],
    [160, 12n],
    [168, 1n],
    [176, 13n],
    [184, 1n],
    [192, BigInt(grainsAt)],
    [200, BigInt(grains * 8)],
  ];
  const bytes = Buffer.alloc((grainsAt + grains * 8) * SECTOR);
  for (const [at, value] of fields) bytes.writeBigUInt64LE(value, at);
  bytes.writeBigUInt64LE(0xcafecafen, SECTOR);
  let next = 0;
  for (let index = 0; index < tables; index += 1) {
    const stored = storedGrains(disk, grain, index * 4096, 4096);
    const marked = [...zeroed, ...unmapped].filter((number) => Math.floor(number / 4096) === index);
    if (stored.length + marked.length === 0) continue;
    // Tables are named by number, and need not be in order.
    const table = tables - index;
    bytes.writeBigUInt64LE(0x1000000000000000n + BigInt(table), 8 * SECTOR + index * 8);
    const entry = (number: number): number => (tablesAt + table * 64) * SECTOR + (number % 4096) * 8;
    for (const number of shuffled(stored)) {
      bytes.writeBigUInt64LE(seSparseEntry(next), entry(number));
      disk.copy(bytes, grainsAt * SECTOR + next * grain, number * grain, (number + 1) * grain);
      next += 1;
    }
    for (const number of zeroed)
      if (marked.includes(number)) bytes.writeBigUInt64LE(2n << 60n, entry(number));
    for (const number of unmapped)
      if (marked.includes(number)) bytes.writeBigUInt64LE(1n << 60n, entry(number));
  }
  return bytes;
}

function seSparseEntry(grain: number): bigint {
  const number = BigInt(grain);
  return (3n << 60n) | ((number & 0xfffn) << 48n) | (number >> 12n);
}

function storedGrains(disk: Buffer, grain: number, first: number, count: number): number[] {
  const numbers: number[] = [];
  for (let number = first; number < first + count && number * grain < disk.length; number += 1) {
    if (disk.subarray(number * grain, (number + 1) * grain).some((byte) => byte !== 0)) numbers.push(number);
  }
  return numbers;
}

function shuffled(numbers: readonly number[]): number[] {
  const random = new Random(numbers.length);
  return numbers
    .map((number) => ({ number, rank: random.next() }))
    .sort((one, other) => one.rank - other.rank)
    .map(({ number }) => number);
}

const padded = (bytes: Buffer, length: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);

/** Values of a grain directory and its tables, flat, read as the specification says. */
export function hostedTables(file: Buffer, which: 'primary' | 'redundant'): number[] {
  const capacity = Number(file.readBigUInt64LE(12));
  const span = Number(file.readBigUInt64LE(20)) * file.readUInt32LE(44);
  const at = Number(file.readBigUInt64LE(which === 'primary' ? 56 : 48)) * SECTOR;
  const values: number[] = [];
  for (let index = 0; index < Math.ceil(capacity / span); index += 1) {
    const table = file.readUInt32LE(at + index * 4) * SECTOR;
    for (let slot = 0; slot < file.readUInt32LE(44); slot += 1)
      values.push(file.readUInt32LE(table + slot * 4));
  }
  return values;
}

/** Options that open an image for writing, with discards. */
export const forWriting = (filename: string): Record<string, unknown> => ({
  driver: 'vmdk',
  discard: 'unmap',
  file: { driver: 'file', filename, discard: 'unmap' },
});

/** `qemu-img check` finds nothing wrong, and `qemu-img compare` no difference. */
export async function qemuAgrees(path: string, content: Buffer): Promise<void> {
  const wanted = await rawFile(join(path, '..'), 'wanted.raw', content);
  await run('qemu-img', ['check', '-q', '-f', 'vmdk', path]);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'vmdk', wanted, path]);
}

/** libvmdk shows the same content in a mount of its own. The caller has asked `canRun` for vmdkmount and fusermount3. */
export async function libvmdkAgrees(path: string, content: Buffer): Promise<void> {
  const folder = await mkdtemp(join(path, '..', 'libvmdk-'));
  await run('vmdkmount', [path, folder]);
  try {
    const found = difference(await readFile(join(folder, 'vmdk1')), content);
    if (found !== undefined) throw new Error(`libvmdk reads "${path}" differently: ${String(found)}`);
  } finally {
    await run('fusermount3', ['-u', folder]);
  }
}

/** What qemu-img says of the format. */
export async function qemuFacts(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('qemu-img', ['info', '--output=json', '-f', 'vmdk', path]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: Record<string, unknown> } };
  return info['format-specific'].data;
}

/** What the driver says of it. */
export async function facts(graph: Graph, path: string): Promise<Readonly<Record<string, unknown>>> {
  const child = await holdImage(graph, path, 'vmdk');
  const info = await child.node.impl.info?.();
  await release(graph, child);
  return info?.formatSpecific ?? {};
}
