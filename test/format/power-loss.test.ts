/**
 * Power loss at any moment, for every format but qcow2 and vmdk: of the writes that were not flushed any part may be in the
 * file. What the disk had acknowledged with a flush must be there; of later writes a sector has the old or a new content.
 * Opened for writing and closed the image is sound.
 */
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { parallelsDriver } from '../../drivers/format/parallels/driver.ts';
import { qcowDriver } from '../../drivers/format/qcow/driver.ts';
import { qedDriver } from '../../drivers/format/qed/driver.ts';
import { vdiDriver } from '../../drivers/format/vdi/driver.ts';
import { vhdxDriver } from '../../drivers/format/vhdx/driver.ts';
import { vpcDriver } from '../../drivers/format/vpc/driver.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import type { Child } from '../../src/block/child.ts';
import type { Driver, RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { limits } from '../../src/block/limits.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { createImage, hold, MIB, release } from './small-image.ts';

const SECTOR = 512;
const SIZE = 3 * MIB;
/** A sector full of each value. */
const FILLED = Array.from({ length: 256 }, (_, value) => Buffer.alloc(SECTOR, value));

/** A file whose writes stay volatile until it is flushed. */
class VolatileFile implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  private content: Buffer;
  private durable: Buffer;
  private pending: ((bytes: Buffer) => Buffer)[] = [];

  constructor(content: Buffer) {
    this.content = Buffer.from(content);
    this.durable = Buffer.from(content);
  }

  get size(): number {
    return this.content.length;
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    bytes.fill(0, at, at + length);
    this.content.copy(bytes, at, offset, offset + length);
    return true;
  }

  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const copy = Buffer.from(bytes.subarray(at, at + length));
    this.change((file) => {
      const grown = resized(file, Math.max(file.length, offset + length));
      copy.copy(grown, offset);
      return grown;
    });
    return true;
  }

  read(bytes: Buffer, offset: number): Promise<void> {
    this.tryRead(bytes, 0, bytes.length, offset);
    return Promise.resolve();
  }

  write(bytes: Buffer, offset: number): Promise<void> {
    this.tryWrite(bytes, 0, bytes.length, offset);
    return Promise.resolve();
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    this.change((file) =>
      resized(file, Math.max(file.length, offset + length)).fill(0, offset, offset + length),
    );
    return Promise.resolve();
  }

  discard(offset: number, length: number): Promise<void> {
    this.change((file) => file.fill(0, offset, offset + length));
    return Promise.resolve();
  }

  resize(size: number): Promise<void> {
    this.change((file) => resized(file, size));
    return Promise.resolve();
  }

  flush(): Promise<void> {
    for (const change of this.pending) this.durable = change(this.durable);
    this.pending = [];
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** What is found after the power is back. */
  afterPowerLoss(random: Random): Buffer {
    const share = random.pick([0.1, 0.5, 0.9]);
    let bytes: Buffer = Buffer.from(this.durable);
    for (const change of this.pending) if (random.chance(share)) bytes = change(bytes);
    return bytes;
  }

  private change(change: (bytes: Buffer) => Buffer): void {
    this.pending.push(change);
    this.content = change(this.content);
  }
}

function resized(bytes: Buffer, size: number): Buffer {
  if (size === bytes.length) return bytes;
  if (size < bytes.length) return Buffer.from(bytes.subarray(0, size));
  const grown = Buffer.alloc(size);
  bytes.copy(grown);
  return grown;
}

/** The values that each sector may have; a write fills sectors with one value. */
class Expectation {
  private readonly sectors: number[][];

  constructor(start: number) {
    this.sectors = Array.from({ length: SIZE / SECTOR }, () => [start]);
  }

  change(first: number, count: number, value: number): void {
    for (let sector = first; sector < first + count; sector += 1) this.sectors[sector]?.push(value);
  }

  flushed(): void {
    for (const [index, values] of this.sectors.entries()) this.sectors[index] = [values.at(-1) ?? 0];
  }

  async check(t: ExecutionContext, child: Child): Promise<boolean> {
    const disk = Buffer.alloc(SIZE);
    await child.read(disk, 0);
    for (const [sector, values] of this.sectors.entries()) {
      const found = disk.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (values.includes(found[0] ?? -1) && found.equals(FILLED[found[0] ?? 0] ?? found)) continue;
      t.fail(`sector ${sector} is ${found.subarray(0, 8).toString('hex')}, must be one of ${values.join()}`);
      return false;
    }
    return true;
  }
}

class Rig {
  readonly graph: Graph;
  private readonly files = new Map<string, VolatileFile>();

  constructor(t: ExecutionContext, format: Driver) {
    const volatile = defineDriver({
      name: 'volatile',
      kind: 'protocol',
      summary: 'Loses what was not flushed',
      options: {},
      children: {},
      open: ({ nodeName }) => Promise.resolve(this.file(nodeName)),
    });
    this.graph = new Graph({ drivers: [volatile, filledDriver, format] });
    t.teardown(() => this.graph.close());
  }

  add(name: string, content: Buffer): VolatileFile {
    const file = new VolatileFile(content);
    this.files.set(name, file);
    return file;
  }

  private file(name: string): VolatileFile {
    return this.files.get(name) ?? this.add(name, Buffer.alloc(0));
  }
}

async function work(child: Child, expected: Expectation, random: Random): Promise<void> {
  for (let step = random.between(1, 60); step > 0; step -= 1) {
    const first = random.below(SIZE / SECTOR);
    const count = Math.min(SIZE / SECTOR - first, random.pick([1, 3, 8, 100, 600]));
    const kind = random.below(10);
    if (kind === 0) {
      await child.flush();
      expected.flushed();
    } else if (kind === 1) {
      const at = Math.floor(first / 256) * 256;
      await child.discard(at * SECTOR, 256 * SECTOR);
      expected.change(at, 256, 0);
      const now = Buffer.alloc(SECTOR);
      await child.read(now, at * SECTOR);
      if (now[0] !== 0) throw new Error('this test takes discards to zero whole blocks');
    } else {
      const value = random.between(1, 255);
      await child.write(Buffer.alloc(count * SECTOR, value), first * SECTOR);
      expected.change(first, count, value);
    }
  }
}

/** What the parent of an overlay is full of. */
const BELOW = 0xee;

const filledDriver = defineDriver({
  name: 'filled',
  kind: 'protocol',
  summary: 'The same byte everywhere',
  options: {},
  children: {},
  open: () =>
    Promise.resolve({
      family: 'request',
      limits: limits({}),
      size: SIZE,
      read: (bytes) => {
        bytes.fill(BELOW);
        return Promise.resolve();
      },
      flush: () => Promise.resolve(),
      close: () => Promise.resolve(),
    } satisfies RequestDriver),
});

interface Kind {
  readonly title: string;
  readonly driver: Driver;
  readonly options: Record<string, unknown>;
  readonly hasParent?: boolean;
  /** A discard of 128 KiB gives zeroes. */
  readonly discards?: boolean;
}

const GUID = '12345678-1234-1234-1234-123456789abc';
const CLUSTER = 64 * 1024;
const PARENT = { subformat: 'differencing', backing_file: 'below' };

const KINDS: readonly Kind[] = [
  { title: 'vdi', driver: vdiDriver, options: { block_size: 128 * 1024 }, discards: true },
  { title: 'vpc', driver: vpcDriver, options: { block_size: 128 * 1024 }, discards: true },
  { title: 'vhdx', driver: vhdxDriver, options: { block_size: MIB } },
  {
    title: 'vdi overlay',
    driver: vdiDriver,
    options: { ...PARENT, block_size: CLUSTER, 'parent-uuid': GUID, 'parent-modification-uuid': GUID },
    hasParent: true,
  },
  {
    title: 'vpc overlay',
    driver: vpcDriver,
    options: { ...PARENT, block_size: 128 * 1024, 'parent-uuid': GUID },
    hasParent: true,
  },
  {
    title: 'vhdx overlay',
    driver: vhdxDriver,
    options: { ...PARENT, block_size: MIB, 'parent-linkage': GUID },
    hasParent: true,
  },
  { title: 'qcow', driver: qcowDriver, options: {} },
  { title: 'qcow overlay', driver: qcowDriver, options: { backing_file: 'below' }, hasParent: true },
  { title: 'qed', driver: qedDriver, options: { cluster_size: CLUSTER, table_size: 2 } },
  {
    title: 'qed overlay',
    driver: qedDriver,
    options: { cluster_size: 4096, table_size: 2, backing_file: 'below' },
    hasParent: true,
  },
  { title: 'parallels', driver: parallelsDriver, options: { cluster_size: CLUSTER } },
];

for (const kind of KINDS) {
  const { title, driver, options, hasParent = false, discards = false } = kind;
  test(`${title}: what was flushed survives a loss of power at any moment`, async (t) => {
    const random = new Random(seed(51));
    const rig = new Rig(t, driver);
    const open = (file: string, readOnly: boolean): Promise<Child> =>
      hold(rig.graph, {
        driver: driver.name,
        discard: discards ? 'unmap' : 'ignore',
        'read-only': readOnly,
        file: { driver: 'volatile', 'node-name': file },
        ...(hasParent ? { backing: { driver: 'filled' } } : {}),
      });
    for (let round = 0; round < rounds(discards ? 12 : 6, 500); round += 1) {
      const expected = new Expectation(hasParent ? BELOW : 0);
      const file = rig.add(`file${round}`, Buffer.alloc(0));
      const empty = await hold(rig.graph, { driver: 'volatile', 'node-name': `file${round}` });
      const createFile = (): never => {
        throw new TypeError('no further files');
      };
      await driver.create?.({ options, size: SIZE, file: empty, subject: title, createFile });
      await release(rig.graph, empty);
      const child = await open(`file${round}`, false);
      await (discards ? work : workWithoutDiscard)(child, expected, random);
      for (const access of ['read', 'write']) {
        const after = `after${round}${access}`;
        rig.add(after, file.afterPowerLoss(random));
        const found = await open(after, access === 'read');
        if (!(await expected.check(t, found))) return;
        await release(rig.graph, found);
        if (access === 'write') await isSound(t, driver, await open(after, true));
      }
      await release(rig.graph, child);
    }
    t.pass();
  });
}

async function isSound(t: ExecutionContext, driver: Driver, child: Child): Promise<void> {
  const found = await driver.check?.(child.node.impl, { repair: 'none' });
  t.is(found?.corruptions ?? 0, 0, found?.messages.join('; '));
}

const BLOCKS: readonly Kind[] = KINDS.slice(0, 3);

for (const { title: name, driver, options } of BLOCKS) {
  test(`${name}: reopened read-only it is whole, reopened for writing it is written to soundly`, async (t) => {
    const random = new Random(seed(52));
    const graph = new Graph({ drivers: [fileDriver, driver] });
    t.teardown(() => graph.close());
    const path = join(await tempDir(t), `a.${name}`);
    await createImage(graph, driver, path, { size: SIZE, options });
    const model = new ModelDisk(SIZE);
    const tree = { driver: name, 'node-name': 'disk', file: { driver: 'file', filename: path } };
    const child = await hold(graph, { ...tree, 'read-only': true });
    for (let round = 0; round < 6; round += 1) {
      await graph.reopen([{ node: child.node, options: { ...tree, discard: 'unmap', 'read-only': false } }]);
      graph.setRootPermissions(child, { used: ALL_PERMISSIONS, shared: ALL_PERMISSIONS });
      await exercise(childDisk(child, random), model, {
        random,
        operations: 60,
        concurrency: 4,
        maxLength: 400_000,
        borders: [128 * 1024, MIB],
      });
      graph.setRootPermissions(child, { used: Permission.consistentRead, shared: ALL_PERMISSIONS });
      await graph.reopen([{ node: child.node, options: { ...tree, 'read-only': true } }]);
      await verify(child, model);
      const other = new Graph({ drivers: [fileDriver, driver] });
      t.teardown(() => other.close());
      const again = await hold(other, { ...tree, 'read-only': true });
      await verify(again, model);
      const found = await driver.check?.(again.node.impl, { repair: 'none' });
      t.deepEqual(found?.messages ?? [], []);
      await release(other, again);
    }
  });
}

/** For formats that ignore discards, or keep what is below. */
async function workWithoutDiscard(child: Child, expected: Expectation, random: Random): Promise<void> {
  for (let step = random.between(1, 40); step > 0; step -= 1) {
    const value = random.between(0, 255);
    const kind = random.below(6);
    if (kind === 0) {
      await child.flush();
      expected.flushed();
    } else if (kind === 1) {
      const block = random.below(SIZE / MIB);
      await child.writeZeroes(block * MIB, MIB);
      expected.change((block * MIB) / SECTOR, MIB / SECTOR, 0);
    } else {
      const first = random.below(SIZE / SECTOR);
      const count = Math.min(SIZE / SECTOR - first, random.pick([1, 8, 600]));
      await child.write(Buffer.alloc(count * SECTOR, value), first * SECTOR);
      expected.change(first, count, value);
    }
  }
}
