/**
 * A flush of the header fails, and what it was to bring to the disk is lost for good, as the kernel does it after an error: it
 * reads as written, no later flush writes it. Whoever tries again has to write it again.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { limits } from '../../src/block/limits.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { hold, MIB, rawFile } from './small-image.ts';

class LosingDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  size: number;
  /** What a power cut leaves. */
  readonly stable: Buffer;
  /** The next flush fails. */
  fails = false;
  private readonly seen: Buffer;
  private pending: { offset: number; bytes: Buffer }[] = [];

  constructor(start: Buffer) {
    this.stable = Buffer.concat([start, Buffer.alloc(MIB)]);
    this.seen = Buffer.from(this.stable);
    this.size = start.length;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    this.seen.copy(bytes, 0, offset, offset + bytes.length);
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    bytes.copy(this.seen, offset);
    this.pending.push({ offset, bytes: Buffer.from(bytes) });
    this.size = Math.max(this.size, offset + bytes.length);
  }

  async flush(): Promise<void> {
    const { pending, fails } = this;
    this.pending = [];
    this.fails = false;
    if (fails) throw new BlockError('EIO', 'Cannot flush: as asked');
    for (const { offset, bytes } of pending) bytes.copy(this.stable, offset);
  }

  async close(): Promise<void> {}
}

test('the dirty bit that a failed flush lost is set again before anything else is written', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'lazy.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=4k,lazy_refcounts=on', image, '4M']);
  const file = new LosingDisk(await readFile(image));
  const driver = defineDriver({
    name: 'losing',
    kind: 'protocol',
    summary: 'A disk in memory that loses what a failed flush was to write',
    options: {},
    children: {},
    open: async () => file,
  });
  const graph = new Graph({ drivers: [...DRIVERS, driver] });
  t.teardown(() => graph.close());
  const disk = await hold(graph, { driver: 'qcow2', file: { driver: 'losing' } });
  file.fails = true;
  await t.throwsAsync(disk.write(Buffer.alloc(8192, 1), 0), { message: /as asked/ });
  t.false(file.fails);
  const content = Buffer.alloc(4 * MIB);
  content.fill(2, 0, 8192);
  await disk.write(Buffer.alloc(8192, 2), 0);
  await disk.flush();
  const cut = await rawFile(folder, 'cut.qcow2', file.stable.subarray(0, file.size));
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', cut])).stdout);
  t.true(info['dirty-flag']);
  const flat = await rawFile(folder, 'flat.raw', content);
  await run('qemu-img', ['check', '-r', 'all', cut]);
  await run('qemu-img', ['check', cut]);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', flat, cut]);
});
