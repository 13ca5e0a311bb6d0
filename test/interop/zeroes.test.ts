/** Zeroes that are written take no room, unless they lie in a cluster that holds data or the user said otherwise. */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { mountImage } from '../helpers/mounted.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MiB = 1 << 20;
const KiB = 1 << 10;
const SIZE = 16 * MiB + 5 * KiB;

interface Stored {
  readonly format: string;
  readonly args?: readonly string[];
  /** MiB that the image takes at least, at most. */
  readonly takes: readonly [number, number];
}

const stores = test.macro(async (t: ExecutionContext, { format, args = [], takes }: Stored) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = join(await tempDir(t), `disk.${format}`);
  await run('qemu-img', ['create', '-q', '-f', format, image, String(SIZE)]);
  const mount = await mountImage(t, image, ['--format', format, ...args]);
  const content = Buffer.alloc(SIZE);
  const file = await open(mount.file, 'r+');
  t.teardown(() => file.close().catch(() => undefined));
  const write = async (value: number, length: number, at: number): Promise<void> => {
    // Memory that was never touched would reach the server page by page.
    await file.write(Buffer.alloc(length, 1).fill(value), 0, length, at);
    await file.sync();
    content.fill(value, at, at + length);
  };
  await write(7, 8 * MiB, 0);
  await write(0, 6 * MiB, MiB);
  await write(0, 4 * KiB, 4 * KiB);
  await write(0, 8 * MiB, 8 * MiB);
  await write(0, 3 * KiB, SIZE - 3 * KiB);
  await file.close();
  await mount.unmount();
  const { blocks } = await stat(image);
  t.true(blocks * 512 >= takes[0] * MiB && blocks * 512 <= takes[1] * MiB, `${blocks * 512} bytes`);
  const flat = `${image}.raw`;
  await run('qemu-img', ['convert', '-f', format, '-O', 'raw', image, flat]);
  const copy = await open(flat);
  t.teardown(() => copy.close());
  t.true((await copy.readFile()).subarray(0, SIZE).equals(content));
  if (format === 'qcow2') await run('qemu-img', ['check', '-q', image]);
});

test('qcow2: the default gives the room back', stores, { format: 'qcow2', takes: [1, 3] });
test('vdi: the default gives the room back', stores, { format: 'vdi', takes: [1, 3] });
test('detect-zeroes=off keeps it', stores, {
  format: 'qcow2',
  args: ['--detect-zeroes', 'off'],
  takes: [16, 18],
});
test('so does discard=ignore', stores, { format: 'qcow2', args: ['--discard', 'ignore'], takes: [16, 18] });
test('qcow2: parts of clusters that are zeroes already take no room, whatever has to be loaded to know', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  for (const kind of ['cluster_size=64k', 'cluster_size=64k,extended_l2=on']) {
    const image = join(await tempDir(t), 'disk.qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', kind, image, '2G']);
    const graph = new Graph({ drivers: DRIVERS });
    t.teardown(() => graph.close());
    const node = await graph.openImage(image, 'qcow2', { discard: 'unmap', 'detect-zeroes': 'unmap' });
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    await disk.writeZeroes(700 * MiB, MiB);
    await graph.close();
    const before = await stat(image);
    const again = new Graph({ drivers: DRIVERS });
    t.teardown(() => again.close());
    const other = await again.openImage(image, 'qcow2', { discard: 'unmap', 'detect-zeroes': 'unmap' });
    const part = again.attachRoot(other, { name: 'test', used: 15 });
    for (const at of [0, 700, 1500]) await part.write(Buffer.alloc(KiB), at * MiB + 5 * KiB);
    await again.close();
    t.is((await stat(image)).size, before.size, kind);
  }
});
test('raw: what is written is written', stores, { format: 'raw', takes: [16, 17] });
