/** A view of a disk at one moment, shown as a file, while a program goes on writing to the disk through the mount. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { attempt, run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import type { QmpClient } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, tool } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const SIZE = 16 << 20;
const CLUSTER = 65536;
const ROUNDS = 10;

const hash = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

/** fio, writing at random places all the time; it can be held still. */
async function startWriter(t: ExecutionContext, file: string) {
  const options = {
    name: 'writer',
    filename: file,
    size: String(SIZE),
    rw: 'randwrite',
    bsrange: '512-128k',
    blockalign: '512',
    ioengine: 'psync',
    refill_buffers: '1',
    time_based: '1',
    runtime: '600',
  };
  const args = ['--thread', ...Object.entries(options).map(([name, value]) => `--${name}=${value}`)];
  const child = spawn(tool('fio'), args, { cwd: await tempDir(t), stdio: 'ignore' });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const isStopped = async (): Promise<boolean> => {
    const tasks = await run('grep', ['-h', '^State', '-r', `/proc/${child.pid}/task/`, '--include=status']);
    return tasks.stdout
      .trim()
      .split('\n')
      .every((line) => line.includes('T (stopped)'));
  };
  return {
    async hold(): Promise<void> {
      child.kill('SIGSTOP');
      while (!(await isStopped())) await sleep(5);
    },
    release: () => child.kill('SIGCONT'),
    isRunning: () => child.exitCode === null,
  };
}

async function exportDisk(client: QmpClient, folder: string): Promise<string> {
  const image = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
  const file = { driver: 'file', filename: image };
  await client.run('blockdev-add', { driver: 'qcow2', 'node-name': 'disk', discard: 'unmap', file });
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  await client.run('block-export-add', {
    type: 'fuse',
    id: 'e0',
    'node-name': 'disk',
    mountpoint,
    writable: true,
  });
  return join(mountpoint, 'disk.raw');
}

/** The steps of a backup, as with qemu-storage-daemon. Returns the file that shows the view. */
async function startView(client: QmpClient, folder: string, cbw: object = {}): Promise<string> {
  const target = join(folder, 'target.raw');
  await writeFile(target, '');
  await truncate(target, SIZE);
  await client.run('blockdev-add', {
    driver: 'raw',
    'node-name': 'target',
    file: { driver: 'file', filename: target },
  });
  const names = { 'node-name': 'cbw', file: 'disk', target: 'target' };
  await client.run('blockdev-add', { driver: 'copy-before-write', ...names, ...cbw });
  await client.run('x-blockdev-change', { parent: 'e0', node: 'cbw' });
  await client.run('blockdev-add', { driver: 'snapshot-access', 'node-name': 'view', file: 'cbw' });
  const mountpoint = join(folder, 'view');
  await mkdir(mountpoint, { recursive: true });
  await client.run('block-export-add', { type: 'fuse', id: 'view', 'node-name': 'view', mountpoint });
  return join(mountpoint, 'view.raw');
}

async function endView(client: QmpClient): Promise<void> {
  await client.run('block-export-del', { id: 'view' });
  await client.run('blockdev-del', { 'node-name': 'view' });
  await client.run('x-blockdev-change', { parent: 'e0', node: 'disk' });
  await client.run('blockdev-del', { 'node-name': 'cbw' });
  await client.run('blockdev-del', { 'node-name': 'target' });
}

interface NamedNode {
  readonly 'node-name': string;
}

const nodeNames = async (client: QmpClient): Promise<string[]> =>
  ((await client.run('query-named-block-nodes', { flat: true })) as NamedNode[])
    .map((node) => node['node-name'])
    .sort();

/** A backup of the folder with the view, and the hash of what is restored from it. */
async function backUp(folder: string, view: string): Promise<string> {
  const env = { ...process.env, RESTIC_PASSWORD: 'x', RESTIC_REPOSITORY: join(folder, 'repo') };
  const cache = ['--cache-dir', join(folder, 'cache')];
  await run('restic', ['init', ...cache], { env });
  await run('restic', ['backup', ...cache, view], { env });
  const restored = join(folder, 'restored');
  await run('restic', ['restore', 'latest', ...cache, '--target', restored], { env });
  return hash(join(restored, view));
}

test.serial(
  'ten views under a writer hold what was there when they were taken; backup tools read them',
  async (t) => {
    if (!canRun(t, 'fio', 'qemu-img', 'restic', 'tar')) return;
    const served = await serve(t);
    const { client, folder } = served;
    const disk = await exportDisk(client, folder);
    const writer = await startWriter(t, disk);
    await sleep(500);
    const before = await nodeNames(client);
    for (let round = 0; round < ROUNDS; round += 1) {
      await writer.hold();
      const wanted = await hash(disk);
      const view = await startView(client, folder);
      writer.release();
      await sleep(100);
      t.is(await hash(view), wanted, `round ${round}`);
      if (round === 0) t.is(await backUp(folder, view), wanted, 'restic');
      const packed = await run('sh', ['-c', `tar -C "${folder}/view" -c . | tar -xO ./view.raw | sha256sum`]);
      t.is(packed.stdout.split(' ')[0], wanted, `round ${round}: tar`);
      await until(async () => (await hash(disk)) !== wanted, 'the disk was written meanwhile');
      await endView(client);
      t.deepEqual(await nodeNames(client), before, 'it vanishes cleanly');
    }
    t.true(writer.isRunning());
    await writer.hold();
    t.deepEqual(
      client.events.filter(({ event }) => event === 'BLOCK_IO_ERROR'),
      [],
    );
    await client.run('quit');
    t.is(await served.ended(), 0);
    await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
  },
);

/** The first byte of a cluster as a program gets it, or why not. */
async function byteOf(file: string, cluster: number): Promise<string> {
  const options = [`if=${file}`, `bs=${CLUSTER}`, `skip=${cluster}`, 'count=1', 'status=none'];
  const { code, stdout, stderr } = await attempt('dd', options, { env: { ...process.env, LC_ALL: 'C' } });
  return code === 0 ? stdout.slice(0, 1) : (stderr.trim().split(': ').at(-1) ?? '');
}

test.serial('a view of what a bitmap marks: the rest is refused', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { client, folder } = await serve(t);
  const disk = await exportDisk(client, folder);
  const handle = await open(disk, 'r+');
  t.teardown(() => handle.close());
  await handle.write(Buffer.alloc(SIZE, 'a'), 0, SIZE, 0);
  await client.run('block-dirty-bitmap-add', { node: 'disk', name: 'b0' });
  await handle.write(Buffer.alloc(2 * CLUSTER, 'b'), 0, 2 * CLUSTER, 3 * CLUSTER);
  const view = await startView(client, folder, { bitmap: { node: 'disk', name: 'b0' } });
  await handle.write(Buffer.alloc(SIZE, 'c'), 0, SIZE, 0);
  const found: string[] = [];
  for (const cluster of [0, 2, 3, 4, 5, 255]) found.push(await byteOf(view, cluster));
  const denied = 'Permission denied';
  t.deepEqual(found, [denied, denied, 'b', 'b', denied, denied]);
  t.is(await byteOf(disk, 3), 'c');
});
