/** What is refused in the middle of a resize: the disk has its old size, and what is answered afterwards is there. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { FaultyDisk, faultyDriver, Faults } from './faulty-disk.ts';
import { hold, MIB, rawFile } from './small-image.ts';

test('a raw data file that can not grow leaves the disk its size', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const options = `data_file=${join(folder, 'data.raw')},data_file_raw=on`;
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, '1M']);
  const full = new Faults({ kind: 'allocation', number: 1, code: 'ENOSPC', lasting: true });
  const file = new FaultyDisk(await readFile(image), new Faults());
  const data = new FaultyDisk(Buffer.alloc(MIB), full);
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file, data })] });
  t.teardown(() => graph.close());
  const disk = await hold(graph, {
    driver: 'qcow2',
    file: { driver: 'faulty-image', 'node-name': 'file' },
    'data-file': { driver: 'faulty-image', 'node-name': 'data' },
  });
  await t.throwsAsync(disk.resize(2 * MIB), { code: 'ENOSPC' });
  t.is(disk.size, MIB);
  await graph.close();
  const left = await rawFile(folder, 'left.qcow2', file.content());
  await rawFile(folder, 'data.raw', data.content());
  await run('qemu-img', ['check', left]);
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', left])).stdout);
  t.is(info['virtual-size'], MIB);
});

test('where shrinking fails, what is written and flushed behind the new end is refused or there', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '1M']);
  const start = await readFile(image);
  for (let number = 1, fired = 1; fired > 0; number += 1) {
    const faults = new Faults({ kind: 'flush', number, code: 'EIO', lasting: false });
    const file = new FaultyDisk(start, faults);
    const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file })] });
    t.teardown(() => graph.close().catch(() => {}));
    const disk = await hold(graph, {
      driver: 'qcow2',
      file: { driver: 'faulty-image', 'node-name': 'file' },
    });
    const bytes = Buffer.alloc(4096, 7);
    const write = async (): Promise<boolean> => {
      await disk.write(bytes, MIB - 4096);
      await disk.flush();
      return true;
    };
    await write().catch(() => false);
    await disk.resize(MIB / 2, true).catch(() => {});
    const answered = disk.size === MIB && (await write().catch(() => false));
    await graph.close().catch(() => {});
    ({ fired } = faults);
    const left = await rawFile(folder, 'left.qcow2', file.content());
    const { code } = await attempt('qemu-img', ['check', left]);
    t.true(code === 0 || code === 3, `flush ${number}`);
    if (!answered) continue;
    await run('qemu-img', ['convert', '-O', 'raw', left, join(folder, 'flat.raw')]);
    const flat = await readFile(join(folder, 'flat.raw'));
    t.true(flat.subarray(MIB - 4096).equals(bytes) && flat.length === MIB, `flush ${number}`);
  }
});
