/** Disks of 16 TiB: ready at once, small in memory, right at every offset. */
import { open, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { mountImage, residentBytes } from '../helpers/mounted.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { seek } from '../helpers/seek.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const TiB = 2 ** 40;
/** The largest file of ext4 ends before 16 TiB. */
const RAW_SIZE = 16 * TiB - 2 ** 20;
const MEMORY = 200 * 1024 * 1024;

interface Large {
  readonly format: string;
  readonly create?: string;
  readonly size: number;
}

async function make(folder: string, large: Large): Promise<string> {
  const image = join(folder, `large.${large.format}`);
  if (large.format === 'raw') {
    const handle = await open(image, 'w');
    await handle.close();
    await truncate(image, large.size);
    return image;
  }
  const options = large.create === undefined ? [] : ['-o', large.create];
  await run('qemu-img', ['create', '-q', '-f', large.format, ...options, image, String(large.size)]);
  return image;
}

const isServed = test.macro(async (t: ExecutionContext, large: Large) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { size, format } = large;
  const image = await make(await tempDir(t), large);
  const start = performance.now();
  const mounted = await mountImage(t, image);
  t.log(`mounted in ${Math.round(performance.now() - start)} ms`);

  const random = new Random(seed(16));
  const places = [
    0,
    2 ** 31 - 100,
    2 ** 32 - 100,
    2 ** 32 + 5,
    2 ** 41 - 3,
    2 ** 41 + 2 ** 33,
    size - 512,
    size - 1,
  ];
  while (places.length < rounds(60, 2000)) places.push(random.below(size - 512));
  const handle = await open(mounted.file, 'r+');
  t.teardown(() => handle.close().catch(() => undefined));
  t.is((await handle.stat()).size, size);
  const written = new Map<number, number>();
  for (const [index, offset] of places.entries()) {
    const bytes = Buffer.alloc(Math.min(300, size - offset), (index % 254) + 1);
    await handle.write(bytes, 0, bytes.length, offset);
    written.set(offset, bytes.length);
  }
  await handle.datasync();
  const last = Buffer.alloc(10, 0xff);
  t.is((await handle.read(last, 0, 10, size - 1)).bytesRead, 1);
  const far = await seek(handle.fd, 'data', 2 ** 41 + 2 ** 33 + 2 ** 21);
  t.true(far !== undefined && far > 2 ** 41);
  await handle.close();
  const memory = await residentBytes(mounted.pid);
  t.true(memory < MEMORY, `${Math.round(memory / 2 ** 20)} MiB resident`);
  t.log(`${Math.round(memory / 2 ** 20)} MiB resident`);
  await mounted.unmount();
  const reads = places.map((offset, index) => ['-c', `read -P ${(index % 254) + 1} ${offset} 1`]);
  const { stdout } = await run('qemu-io', ['-r', '-f', format, ...reads.slice(8).flat(), image]);
  t.false(stdout.includes('Pattern verification failed'), stdout);
  const byHand = await run('qemu-io', ['-r', '-f', format, '-c', `read -P 8 ${size - 1} 1`, image]);
  t.false(byHand.stdout.includes('failed'), byHand.stdout);
  if (format === 'qcow2') await run('qemu-img', ['check', image]);
});

test.serial('16 TiB of qcow2', isServed, { format: 'qcow2', size: 16 * TiB });
test.serial('16 TiB of qcow2 with 2 MiB clusters', isServed, {
  format: 'qcow2',
  create: 'cluster_size=2M',
  size: 16 * TiB,
});
test.serial('16 TiB of qcow2 with 8 KiB clusters', isServed, {
  format: 'qcow2',
  create: 'cluster_size=8k',
  size: 16 * TiB,
});
test.serial('nearly 16 TiB of raw', isServed, { format: 'raw', size: RAW_SIZE });

test.serial('the time until a mount of 16 TiB is ready is told', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await make(await tempDir(t), { format: 'qcow2', size: 16 * TiB });
  const times: number[] = [];
  for (let tries = 0; tries < 3; tries += 1) {
    const start = performance.now();
    const mounted = await mountImage(t, image);
    times.push(performance.now() - start);
    await mounted.unmount();
  }
  t.log(`ready after ${times.map(Math.round).join(', ')} ms`);
  t.is(times.length, 3);
});
