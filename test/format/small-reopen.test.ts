import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { parallelsDriver } from '../../drivers/format/parallels/driver.ts';
import { qcowDriver } from '../../drivers/format/qcow/driver.ts';
import { qedDriver } from '../../drivers/format/qed/driver.ts';
import type { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { difference } from '../helpers/model-disk.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { createImage, graphWith, MIB, mixedDisk, readAll } from './small-image.ts';

const SIZE = 6 * MIB;

for (const driver of [qcowDriver, qedDriver, parallelsDriver]) {
  test(`${driver.name}: is reopened for writing and back, and is whole when it can only be read`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const path = join(await tempDir(t), 'disk.img');
    const graph = graphWith(t, driver);
    await createImage(graph, driver, path, { size: SIZE });
    const node = await graph.open({ ...tree(driver.name, path), 'read-only': true });
    const child = graph.attachRoot(node, { name: 'test', used: Permission.consistentRead });
    const disk = mixedDisk(1, SIZE);
    for (let round = 0; round < 2; round += 1) {
      await reopen(graph, driver.name, path, false);
      graph.setRootPermissions(child, { used: ALL_PERMISSIONS, shared: ALL_PERMISSIONS });
      const half = SIZE / 2;
      await child.write(disk.subarray(round * half, (round + 1) * half), round * half);
      graph.setRootPermissions(child, { used: Permission.consistentRead, shared: ALL_PERMISSIONS });
      await reopen(graph, driver.name, path, true);
      const before = await readFile(path);
      if (driver.name !== 'qcow') await run('qemu-img', ['check', '-f', driver.name, path]);
      await t.throwsAsync(child.write(Buffer.alloc(512), 0));
      t.true(before.equals(await readFile(path)));
    }
    t.is(difference(await readAll(child), disk), undefined);
    await run('qemu-img', ['convert', '-U', '-f', driver.name, '-O', 'raw', path, `${path}.raw`]);
    t.is(difference(await readFile(`${path}.raw`), disk), undefined);
  });
}

const tree = (driver: string, filename: string): Record<string, unknown> => ({
  driver,
  'node-name': 'image',
  file: { driver: 'file', 'node-name': 'storage', filename },
});

async function reopen(graph: Graph, driver: string, filename: string, readOnly: boolean): Promise<void> {
  const common = { 'read-only': readOnly };
  await graph.reopen([
    { node: graph.node('storage'), options: { driver: 'file', 'node-name': 'storage', filename, ...common } },
    { node: graph.node('image'), options: { driver, 'node-name': 'image', file: 'storage', ...common } },
  ]);
}
