/** Changes of the graph while fio writes and verifies through an export: no I/O error, no wrong byte. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import type { Served } from '../helpers/serve.ts';
import { canRun, tool } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const SIZE = 64 << 20;
const REGION = '32M';

/** What fio's exit code is when SIGINT ends it. */
const INTERRUPTED = 128;

/** fio, writing and verifying until it is told to stop. */
function startFio(t: ExecutionContext, file: string) {
  const options = {
    name: 'live',
    filename: file,
    size: REGION,
    rw: 'randrw',
    bs: '4k',
    ioengine: 'psync',
    numjobs: '1',
    verify: 'crc32c',
    verify_backlog: '256',
    verify_fatal: '1',
    time_based: '1',
    runtime: '3600',
    randseed: '7',
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(tool('fio'), args, { cwd: join(file, '..', '..'), stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (text: Buffer) => (said += text.toString()));
  child.stderr.on('data', (text: Buffer) => (said += text.toString()));
  const ending = once(child, 'exit') as Promise<[number | null]>;
  return {
    isRunning: () => child.exitCode === null,
    async stop(): Promise<void> {
      child.kill('SIGINT');
      const [code] = await ending;
      if (code !== INTERRUPTED || !said.includes(' err= 0:'))
        throw new Error(`fio: exit code ${code}\n${said}`);
    },
  };
}

/** As much as it takes a second to write when nothing else goes on. */
function hasWritten(image: string): Promise<void> {
  return until(async () => (await stat(image)).blocks * 512 > 8 << 20, 'what fio writes');
}

async function exported(t: ExecutionContext): Promise<Served & { file: string; image: string }> {
  const served = await serve(t);
  const { folder, client } = served;
  const image = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  await client.run('blockdev-add', {
    driver: 'qcow2',
    'node-name': 'n0',
    file: { driver: 'file', filename: image },
  });
  await client.run('block-export-add', {
    type: 'fuse',
    id: 'e0',
    'node-name': 'n0',
    mountpoint,
    writable: true,
  });
  return { ...served, image, file: join(mountpoint, 'n0.raw') };
}

type Live = Awaited<ReturnType<typeof exported>>;

async function filtersComeAndGo({ client }: Live): Promise<void> {
  await client.run('object-add', { 'qom-type': 'throttle-group', id: 'tg', limits: { 'iops-total': 500 } });
  for (let round = 0; round < 3; round += 1) {
    await client.run('blockdev-add', {
      driver: 'throttle',
      'node-name': 't0',
      'throttle-group': 'tg',
      file: 'n0',
    });
    await client.run('x-blockdev-change', { parent: 'e0', node: 't0' });
    await sleep(150);
    await client.run('x-blockdev-change', { parent: 'e0', node: 'n0' });
    await client.run('blockdev-del', { 'node-name': 't0' });
    await sleep(100);
  }
}

async function overlaysAreTaken({ client, folder }: Live): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await client.run('blockdev-snapshot-sync', {
      'node-name': round === 0 ? 'n0' : `s${round - 1}`,
      'snapshot-file': join(folder, `s${round}.qcow2`),
      'snapshot-node-name': `s${round}`,
    });
    await sleep(200);
  }
}

async function reopensAndResizes({ client, image }: Live): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    const options = { driver: 'qcow2', 'node-name': 'n0', file: { driver: 'file', filename: image } };
    await client.run('blockdev-reopen', { options: [{ ...options, 'read-only': true }] });
    await client.run('blockdev-reopen', { options: [{ ...options, 'read-only': false }] });
    await sleep(50);
  }
  for (const size of [96 << 20, 128 << 20, 80 << 20]) {
    await client.run('block_resize', { 'node-name': 's2', size });
    await sleep(50);
  }
}

async function transactionWithOverlay({ client, folder }: Live): Promise<void> {
  await client.run('transaction', {
    actions: [
      { type: 'block-dirty-bitmap-add', data: { node: 's2', name: 'b0' } },
      {
        type: 'blockdev-snapshot-sync',
        data: {
          'node-name': 's2',
          'snapshot-file': join(folder, 's3.qcow2'),
          'snapshot-node-name': 's3',
        },
      },
      { type: 'block-dirty-bitmap-add', data: { node: 's3', name: 'b0' } },
    ],
  });
}

/** Snapshots inside the image, and the name of the backing file that stands in it. */
async function internalSnapshots(t: ExecutionContext, { client, folder }: Live): Promise<void> {
  for (const name of ['one', 'two']) {
    await client.run('blockdev-snapshot-internal-sync', { device: 's3', name });
    await sleep(100);
  }
  t.regex(
    await client.refused('blockdev-snapshot-internal-sync', { device: 's3', name: 'one' }),
    /already exists on device 's3'/,
  );
  t.like(await client.run('blockdev-snapshot-delete-internal-sync', { device: 's3', name: 'one' }), {
    name: 'one',
    'vm-state-size': 0,
  });
  await client.run('change-backing-file', {
    device: 's3',
    'image-node-name': 's2',
    'backing-file': join(folder, 'copy.qcow2'),
  });
}

async function otherBackingFile({ client, folder }: Live): Promise<void> {
  // Another backing file of the same content.
  await copyFile(join(folder, 's1.qcow2'), join(folder, 'copy.qcow2'));
  await client.run('blockdev-add', {
    driver: 'qcow2',
    'node-name': 'copy',
    'read-only': true,
    file: { driver: 'file', filename: join(folder, 'copy.qcow2') },
    backing: 'n0',
  });
}

test.serial('filters come and go, overlays, reopens and resizes under a writer that verifies', async (t) => {
  if (!canRun(t, 'fio', 'qemu-img')) return;
  const live = await exported(t);
  const { client, folder } = live;
  const fio = startFio(t, live.file);
  await hasWritten(live.image);
  await filtersComeAndGo(live);
  await overlaysAreTaken(live);
  await reopensAndResizes(live);
  await transactionWithOverlay(live);
  await internalSnapshots(t, live);
  await otherBackingFile(live);
  t.true(fio.isRunning());
  await client.run('x-blockdev-change', { parent: 's2', child: 'backing', node: 'copy' });
  await sleep(300);
  t.true(fio.isRunning(), 'everything was done while fio ran');
  await fio.stop();
  t.deepEqual(
    client.events.filter(({ event }) => event === 'BLOCK_IO_ERROR'),
    [],
  );
  await client.run('block-export-del', { id: 'e0' });
  await client.run('quit');
  t.is(await live.ended(), 0);
  for (const name of ['disk', 's0', 's1', 's2', 's3'])
    await run('qemu-img', ['check', '-q', join(folder, `${name}.qcow2`)]);
});

test.serial('an export of a raw file: overlay, filter and resize under a writer that verifies', async (t) => {
  if (!canRun(t, 'fio', 'qemu-img')) return;
  const served = await serve(t);
  const { client, folder } = served;
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  await writeFile(join(folder, 'disk.raw'), '');
  await truncate(join(folder, 'disk.raw'), SIZE);
  const disk = { driver: 'file', filename: join(folder, 'disk.raw') };
  await client.run('blockdev-add', { driver: 'raw', 'node-name': 'r0', file: disk });
  const id = { type: 'fuse', id: 'e0', 'node-name': 'r0' };
  await client.run('block-export-add', { ...id, mountpoint, writable: true });
  const fio = startFio(t, join(mountpoint, 'r0.raw'));
  await hasWritten(disk.filename);
  await client.run('block_resize', { 'node-name': 'r0', size: 2 * SIZE });
  for (let round = 0; round < 5; round += 1) {
    await client.run('blockdev-add', { driver: 'copy-on-read', 'node-name': 'c0', file: 'r0' });
    await client.run('x-blockdev-change', { parent: 'e0', node: 'c0' });
    await sleep(50);
    await client.run('x-blockdev-change', { parent: 'e0', node: 'r0' });
    await client.run('blockdev-del', { 'node-name': 'c0' });
  }
  const overlay = join(folder, 'over.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', overlay, String(2 * SIZE)]);
  await client.run('blockdev-add', {
    driver: 'qcow2',
    'node-name': 'over',
    file: { driver: 'file', filename: overlay },
    backing: null,
  });
  await client.run('blockdev-snapshot', { node: 'r0', overlay: 'over' });
  t.true(fio.isRunning(), 'everything was done while fio ran');
  await fio.stop();
  await client.run('block-export-del', { id: 'e0' });
  await client.run('quit');
  t.is(await served.ended(), 0);
  await run('qemu-img', ['check', '-q', overlay]);
});
