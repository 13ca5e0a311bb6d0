/**
 * Changes of the graph that meet requests which wait: fio with sixteen requests under way verifies an image on a slow file, while
 * three clients at once put filters above and below the format, reopen, resize and take snapshots.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { QmpClient, serve } from '../helpers/serve.ts';
import { canRun, tool } from '../helpers/tools.ts';

const MIB = 1 << 20;
const SECONDS = 12;

function startFio(t: ExecutionContext, file: string) {
  const options = {
    name: 'races',
    filename: file,
    size: '24M',
    rw: 'randrw',
    bsrange: '4k-128k',
    blockalign: '4k',
    ioengine: 'libaio',
    direct: '1',
    iodepth: '16',
    verify: 'crc32c',
    verify_backlog: '128',
    verify_fatal: '1',
    time_based: '1',
    runtime: String(SECONDS),
    randseed: '11',
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(tool('fio'), args, { cwd: join(file, '..', '..'), stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => (said += text.toString()));
  const ending = once(child, 'exit') as Promise<[number | null]>;
  return {
    isRunning: () => child.exitCode === null,
    async finish(): Promise<void> {
      const [code] = await ending;
      if (code !== 0) throw new Error(`fio: exit code ${code}\n${said}`);
    },
  };
}

interface Disk {
  readonly image: string;
  readonly file: string;
}

/** file <- delay <- qcow2 <- export */
async function exportDisk(client: QmpClient, folder: string): Promise<Disk> {
  const image = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '32M']);
  await client.run('object-add', { 'qom-type': 'throttle-group', id: 'g', limits: { 'iops-total': 2000 } });
  await client.run('blockdev-add', fileOptions(image, false));
  await client.run('blockdev-add', {
    driver: 'delay',
    'node-name': 'slow',
    file: 'f0',
    'read-ms': 1,
    'write-ms': 2,
    'flush-ms': 3,
  });
  await client.run('blockdev-add', imageOptions('ignore'));
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  const about = { type: 'fuse', id: 'e0', 'node-name': 'n0', mountpoint, writable: true };
  await client.run('block-export-add', about);
  return { image, file: join(mountpoint, 'n0.raw') };
}

const fileOptions = (filename: string, direct: boolean): object => ({
  driver: 'file',
  'node-name': 'f0',
  filename,
  discard: 'unmap',
  cache: { direct },
});

const imageOptions = (discard: string): object => ({
  driver: 'qcow2',
  'node-name': 'n0',
  file: 'slow',
  discard,
  'l2-cache-size': 65536,
});

type Change = (client: QmpClient, random: Random, disk: Disk) => Promise<void>;

async function aboveAndAway(client: QmpClient, random: Random): Promise<void> {
  const driver = random.pick([
    { driver: 'throttle', 'throttle-group': 'g' },
    { driver: 'log' },
    { driver: 'delay', 'write-ms': 1 },
    { driver: 'copy-on-read' },
  ]);
  await client.run('blockdev-add', { ...driver, 'node-name': 'above', file: 'n0' });
  await client.run('x-blockdev-change', { parent: 'e0', node: 'above' });
  await sleep(random.below(60));
  await client.run('x-blockdev-change', { parent: 'e0', node: 'n0' });
  await client.run('blockdev-del', { 'node-name': 'above' });
}

async function belowAndAway(client: QmpClient, random: Random): Promise<void> {
  await client.run('blockdev-add', { driver: 'log', 'node-name': 'below', file: 'slow' });
  await client.run('x-blockdev-change', { parent: 'n0', child: 'file', node: 'below' });
  await sleep(random.below(60));
  await client.run('x-blockdev-change', { parent: 'n0', child: 'file', node: 'slow' });
  await client.run('blockdev-del', { 'node-name': 'below' });
}

async function reopenFile(client: QmpClient, random: Random, { image }: Disk): Promise<void> {
  await client.run('blockdev-reopen', { options: [fileOptions(image, random.chance(0.5))] });
}

async function reopenImage(client: QmpClient, random: Random): Promise<void> {
  // Refused while the other client has a filter between: "file" is another node then.
  await client.ask('blockdev-reopen', { options: [imageOptions(random.pick(['unmap', 'ignore']))] });
}

async function resize(client: QmpClient, random: Random): Promise<void> {
  await client.run('block_resize', { 'node-name': 'n0', size: (28 + random.below(8)) * MIB });
}

async function snapshot(client: QmpClient): Promise<void> {
  await client.run('blockdev-snapshot-internal-sync', { device: 'n0', name: 'then' });
  await client.run('blockdev-snapshot-delete-internal-sync', { device: 'n0', name: 'then' });
}

/** What one client does, over and over: no two do what would be in each other's way. */
const CLIENTS: readonly (readonly Change[])[] = [
  [aboveAndAway, resize],
  [belowAndAway, snapshot],
  [reopenFile, reopenImage, resize],
];

test.serial(
  'three clients change the graph while sixteen requests wait: no I/O error, no wrong byte',
  async (t) => {
    if (!canRun(t, 'fio', 'qemu-img')) return;
    const ownSeed = seed(5);
    t.log(`seed ${ownSeed}`);
    const served = await serve(t);
    const { client, folder, socket } = served;
    const disk = await exportDisk(client, folder);
    const fio = startFio(t, disk.file);
    let changes = 0;
    const work = CLIENTS.map(async (kinds, index) => {
      const own = await QmpClient.connect(t, socket);
      const random = new Random(ownSeed + index);
      while (fio.isRunning()) {
        await random.pick(kinds)(own, random, disk);
        changes += 1;
      }
    });
    await Promise.all(work);
    await fio.finish();
    t.log(`${changes} changes`);
    t.true(changes > 20, String(changes));
    t.deepEqual(
      client.events.filter(({ event }) => event !== 'BLOCK_EXPORT_DELETED'),
      [],
    );
    await client.run('block-export-del', { id: 'e0' });
    await client.run('quit');
    t.is(await served.ended(), 0, served.stderr());
    await run('qemu-img', ['check', '-q', disk.image]);
  },
);
