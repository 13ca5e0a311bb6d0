/** qcow2 with something still under way when it is closed, or when its tables become others. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import { snapshotsOf } from '../../src/block/internal-snapshots.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { FaultyDisk, faultyDriver, Faults } from './faulty-disk.ts';

const CLUSTER = 65536;

/** Punches slowly, and tells what came after it was closed. */
class SlowPuncher extends FaultyDisk {
  readonly late: string[] = [];
  punched = 0;
  isFull = false;
  private isClosed = false;

  override async discard(offset: number, length: number): Promise<void> {
    if (this.isClosed) this.late.push(`discard ${offset}+${length}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await super.discard(offset, length);
    this.punched += 1;
  }

  override write(bytes: Buffer, offset: number): Promise<void> {
    if (this.isFull) return Promise.reject(new BlockError('ENOSPC', 'Cannot write: as asked'));
    return super.write(bytes, offset);
  }

  override tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return !this.isFull && super.tryWrite(bytes, at, length, offset);
  }

  override close(): Promise<void> {
    this.isClosed = true;
    return super.close();
  }
}

/** An image of 32 clusters of data. */
async function makeImage(t: ExecutionContext): Promise<{ bytes: Buffer; content: Buffer }> {
  const folder = await tempDir(t);
  const [raw, image] = [join(folder, 'content.raw'), join(folder, 'image.qcow2')];
  const content = new Random(3).bytes(32 * CLUSTER);
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  return { bytes: await readFile(image), content };
}

test('an image is closed after its freed clusters are given back, also when the last flush fails', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { bytes } = await makeImage(t);
  const file = new SlowPuncher(bytes, new Faults());
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file })] });
  const node = await graph.open({
    driver: 'qcow2',
    discard: 'unmap',
    file: { driver: 'faulty-image', 'node-name': 'file' },
  });
  const disk = graph.attachRoot(node, { name: 'test', used: 15 });
  // Not neighbours: each is a hole of its own.
  for (let cluster = 0; cluster < 16; cluster += 2)
    await disk.writeZeroes(cluster * CLUSTER, CLUSTER, ZeroFlag.mayUnmap);
  await disk.flush();
  await disk.writeZeroes(17 * CLUSTER, CLUSTER, ZeroFlag.mayUnmap);
  file.isFull = true;
  await t.throwsAsync(graph.close(), { code: 'ENOSPC' });
  const { punched } = file;
  t.is(punched, 8);
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.deepEqual(file.late, []);
  t.is(file.punched, punched);
});

const SLICE = 4096;

/** Holds back the first read of one length until it is let go, then answers with what was there when it came. */
class SlowReader extends FaultyDisk {
  isArmed = false;
  readonly asked = Promise.withResolvers<void>();
  readonly gate = Promise.withResolvers<void>();

  override tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    return length !== SLICE && super.tryRead(bytes, at, length, offset);
  }

  override async read(bytes: Buffer, offset: number): Promise<void> {
    await super.read(bytes, offset);
    if (bytes.length !== SLICE || !this.isArmed) return;
    this.isArmed = false;
    this.asked.resolve();
    await this.gate.promise;
  }
}

test('a table that is being read while a snapshot is taken is not taken for the one after it', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { bytes, content } = await makeImage(t);
  const file = new SlowReader(bytes, new Faults());
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file })] });
  t.teardown(() => graph.close());
  const below = { driver: 'faulty-image', 'node-name': 'file' };
  const node = await graph.open({ driver: 'qcow2', 'l2-cache-entry-size': SLICE, file: below });
  const disk = graph.attachRoot(node, { name: 'test', used: 15 });
  file.isArmed = true;
  // Whoever reads by itself, past every drained section: the worst that there could be.
  const map = node.status(0, CLUSTER, new BlockStatus());
  await file.asked.promise;
  const snapshots = snapshotsOf(node);
  await snapshots.create('before');
  file.gate.resolve();
  await map;
  await disk.write(Buffer.alloc(32 * CLUSTER, 0x77), 0);
  const view = await graph.open({ driver: 'snapshot-access', file: node.name, snapshot: 'before' });
  const door = graph.attachRoot(view, { name: 'reader', used: 1 });
  const kept = Buffer.alloc(content.length);
  await door.read(kept, 0);
  t.true(kept.equals(content));
});

/** Refuses the reads of one moment at once, as a descriptor that reports EIO does. */
class RefusingReader extends FaultyDisk {
  isRefusing = false;

  override tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (this.isRefusing) throw new BlockError('EIO', 'Cannot read: as asked');
    return super.tryRead(bytes, at, length, offset);
  }
}

test('a compressed cluster that could not be read once is read the next time', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const [raw, image] = [join(folder, 'content.raw'), join(folder, 'image.qcow2')];
  const content = Buffer.alloc(4 * CLUSTER, 'compressible ');
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, image]);
  const file = new RefusingReader(await readFile(image), new Faults());
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file })] });
  t.teardown(() => graph.close());
  const node = await graph.open({
    driver: 'qcow2',
    file: { driver: 'faulty-image', 'node-name': 'file' },
  });
  const disk = graph.attachRoot(node, { name: 'test', used: 1 });
  const found = Buffer.alloc(CLUSTER);
  await disk.read(found, 3 * CLUSTER);
  file.isRefusing = true;
  await t.throwsAsync(disk.read(found, 0), { code: 'EIO' });
  file.isRefusing = false;
  await disk.read(found, 0);
  t.deepEqual(found, content.subarray(0, CLUSTER));
});
