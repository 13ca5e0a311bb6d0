/** The end of an image whose last flush fails while freed clusters are still being given back. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
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

test('an image is closed after its freed clusters are given back, also when the last flush fails', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const [raw, image] = [join(folder, 'content.raw'), join(folder, 'image.qcow2')];
  const content = new Random(3).bytes(32 * CLUSTER);
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  const file = new SlowPuncher(await readFile(image), new Faults());
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
