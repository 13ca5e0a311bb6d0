/** What the tests of the smaller formats share: disks to convert, opening, creating, mutating. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { ExecutionContext } from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import type { Child } from '../../src/block/child.ts';
import type { Driver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { Random } from '../helpers/random.ts';

export const MIB = 1024 * 1024;

/** A disk with packed data, random data, and holes. */
export function mixedDisk(seed: number, size: number): Buffer {
  const random = new Random(seed);
  const disk = Buffer.alloc(size);
  for (let at = 0; at < size;) {
    const length = Math.min(size - at, 512 * random.between(1, 600));
    const kind = random.below(4);
    if (kind === 0) random.softBytes(length).copy(disk, at);
    if (kind === 1) random.bytes(length).copy(disk, at);
    at += length;
  }
  return disk;
}

/** Writes a disk into a raw file of the test's folder. */
export async function rawFile(folder: string, name: string, disk: Buffer): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, disk);
  return path;
}

export function graphWith(t: ExecutionContext, ...drivers: Driver[]): Graph {
  const graph = new Graph({ drivers: [rawDriver, fileDriver, ...drivers] });
  t.teardown(() => graph.close());
  return graph;
}

export const READ = Permission.consistentRead;

/** Opens an image and holds it; detach it, or close the graph, to close it. */
export async function hold(graph: Graph, options: Record<string, unknown>): Promise<Child> {
  const node = await graph.open(options);
  const used = node.readOnly ? READ : ALL_PERMISSIONS;
  return graph.attachRoot(node, { name: 'test', label: 'the test', used });
}

export async function holdImage(
  graph: Graph,
  path: string,
  format?: string,
  readOnly = true,
): Promise<Child> {
  const node = await graph.openImage(path, format, { 'read-only': readOnly });
  const used = node.readOnly ? READ : ALL_PERMISSIONS;
  return graph.attachRoot(node, { name: 'test', label: 'the test', used });
}

export async function release(graph: Graph, child: Child): Promise<void> {
  const { name } = child.node;
  await graph.detach(child);
  await graph.remove(name);
}

/** All of a disk, read in pieces of odd sizes. */
export async function readAll(child: Child, step = 300_007): Promise<Buffer> {
  const disk = Buffer.alloc(child.size, 0xdb);
  for (let at = 0; at < disk.length; at += step) {
    await child.read(disk.subarray(at, Math.min(disk.length, at + step)), at);
  }
  return disk;
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Makes an image by the driver's own `create`. */
export async function createImage(
  graph: Graph,
  driver: Driver,
  path: string,
  image: { size: number; options?: Record<string, unknown> },
): Promise<void> {
  await writeFile(path, '');
  const child = await hold(graph, { driver: 'file', filename: path });
  try {
    await driver.create?.({
      options: image.options ?? {},
      size: image.size,
      file: child,
      subject: path,
      createFile: () => Promise.reject(new TypeError('no further files are wanted')),
    });
  } finally {
    await release(graph, child);
  }
}

export interface Mutations {
  readonly driver: string;
  readonly seed: number;
  /** A good image. */
  readonly path: string;
  /** Bytes of it that hold headers and tables: most mutations go there. */
  readonly tables: readonly (readonly [from: number, to: number])[];
  /** Also open for writing. */
  readonly writable: boolean;
  /** Damages a copy in another way than byte by byte. */
  readonly damage?: (good: Buffer, random: Random) => Buffer;
}

/**
 * 200 damaged copies of an image: each refused with a BlockError or served, within time and memory. Time is that of the
 * processor, so that a busy machine does not fail the test; what never ends is ended by ava.
 */
export async function survivesMutations(t: ExecutionContext, graph: Graph, setup: Mutations): Promise<void> {
  const good = await readFile(setup.path);
  const random = new Random(setup.seed);
  const path = `${setup.path}.mutated`;
  let refused = 0;
  let slowest = 0;
  for (let round = 0; round < 200; round += 1) {
    await writeFile(path, setup.damage?.(good, random) ?? mutate(good, random, setup));
    const readOnly = !setup.writable || random.chance(0.5);
    const started = process.cpuUsage();
    const outcome = await serve(graph, {
      driver: setup.driver,
      'read-only': readOnly,
      file: { driver: 'file', filename: path },
    });
    const { user, system } = process.cpuUsage(started);
    slowest = Math.max(slowest, (user + system) / 1000);
    if (outcome === undefined) continue;
    refused += 1;
    if (!(outcome instanceof BlockError)) t.fail(`round ${round}: ${inspect(outcome)}`);
  }
  t.true(slowest < 5000, `slowest took ${Math.round(slowest)} ms of CPU`);
  const memory = process.memoryUsage().rss;
  t.true(memory < 512 * MIB, `resident ${Math.round(memory / MIB)} MiB`);
  t.log(
    `${refused} of 200 refused, slowest ${Math.round(slowest)} ms, resident ${Math.round(memory / MIB)} MiB`,
  );
}

function mutate(good: Buffer, random: Random, { tables }: Mutations): Buffer {
  const bytes = Buffer.from(good);
  if (random.chance(0.1)) return bytes.subarray(0, random.below(bytes.length));
  const changes = random.between(1, 6);
  for (let change = 0; change < changes; change += 1) {
    const [from, to] = random.chance(0.9) ? random.pick(tables) : [0, bytes.length];
    const at = random.between(from, Math.min(to, bytes.length) - 1);
    const value = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    const length = random.pick([1, 1, 1, 2, 4, 8]);
    bytes.fill(value, at, Math.min(bytes.length, at + length));
  }
  return bytes;
}

async function serve(graph: Graph, options: Record<string, unknown>): Promise<unknown> {
  let child: Child | undefined;
  try {
    child = await hold(graph, options);
    const bytes = Buffer.alloc(Math.min(child.size, MIB));
    await child.read(bytes, 0);
    await child.read(bytes.subarray(0, Math.min(65536, bytes.length)), Math.max(0, child.size - 65536));
    if (options['read-only'] === true) return undefined;
    await child.write(
      Buffer.alloc(Math.min(child.size, 70_000), 0x5a),
      Math.max(0, Math.floor(child.size / 2) - 70_000),
    );
    await child.flush();
    return undefined;
  } catch (error) {
    return error;
  } finally {
    if (child !== undefined) await release(graph, child).catch(() => {});
  }
}
