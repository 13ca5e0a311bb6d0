/** attach and detach: an ext4 over a loop device over a mounted qcow2, again and again, with nothing left behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { backingFile } from '../helpers/loop-device.ts';
import { isMounted } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse, program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, tool } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const ROUNDS = process.env['BLOCKFUSE_SOAK'] === '1' ? 100 : 6;

/** While a mount namespace of another test has a copy of the file system, somebody uses it: then again, as is said. */
async function detach(what: string): Promise<void> {
  let outcome: Outcome | undefined;
  const isAnswered = async (): Promise<boolean> => {
    outcome = await attemptBlockfuse(['detach', what]);
    return !outcome.stderr.includes('somebody still uses it');
  };
  await until(isAnswered, `detach ${what}`);
  if (outcome?.code !== 0) throw new Error(outcome?.stderr);
}

test.serial(`attach and detach ${ROUNDS} times, with writes in between`, async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'mkfs.ext4', 'fsck.ext4', 'losetup')) return;
  const dir = await tempDir(t);
  const raw = join(dir, 'fs.raw');
  const image = join(dir, 'fs.qcow2');
  const folder = join(dir, 'mnt');
  await mkdir(folder);
  await run('mkfs.ext4', ['-q', '-F', raw, '48M']);
  await run('qemu-img', ['convert', '-O', 'qcow2', raw, image]);
  t.teardown(() => blockfuse(['detach', image]).catch(() => undefined));
  for (let round = 0; round < ROUNDS; round += 1) {
    const { stdout } = await blockfuse(['attach', '--json', '--mount', folder, image]);
    const { device, mountpoint } = JSON.parse(stdout) as { device: string; mountpoint: string };
    for (let before = 0; before < round; before += 1) {
      t.is(await readFile(join(folder, `file${before}`), 'utf8'), `round ${before}\n`.repeat(1000));
    }
    await writeFile(join(folder, `file${round}`), `round ${round}\n`.repeat(1000));
    const file = await backingFile(device);
    await detach(device);
    t.not(await backingFile(device), file);
    t.false(await isMounted(folder), 'the file system');
    t.false(existsSync(mountpoint), 'the mount point of the disk');
    await run('qemu-img', ['check', image]);
  }
  await run('qemu-img', ['convert', '-O', 'raw', image, raw]);
  await run('fsck.ext4', ['-fn', raw]);
  t.deepEqual(await readdir(folder), []);
});

test.serial('a partition that is not there leaves nothing behind', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'losetup')) return;
  const image = join(await tempDir(t), 'none.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  await t.throwsAsync(blockfuse(['attach', '--partition', '1', image]), { message: /partition 1/ });
  const { stdout } = await blockfuse(['list', '--json']);
  t.false(stdout.includes(image));
});

const TABLE = 'label: gpt\nstart=1MiB,size=4MiB\nstart=8MiB,size=48MiB\n';

/** A qcow2 with two partitions, the second an ext4. */
async function partedImage(t: ExecutionContext): Promise<{ image: string; folder: string }> {
  const dir = await tempDir(t);
  const [raw, part] = [join(dir, 'raw'), join(dir, 'part')];
  const [image, folder] = [join(dir, 'parted.qcow2'), join(dir, 'mnt')];
  await mkdir(folder);
  await run('truncate', ['-s', '64M', raw]);
  await run('sfdisk', ['-q', raw], { input: TABLE });
  await run('mkfs.ext4', ['-q', '-F', part, '48M']);
  await run('dd', [`if=${part}`, `of=${raw}`, 'bs=1M', 'seek=8', 'conv=notrunc']);
  await run('qemu-img', ['convert', '-O', 'qcow2', raw, image]);
  t.teardown(() => attemptBlockfuse(['detach', image]));
  return { image, folder };
}

const blockSize = async (device: string): Promise<string> =>
  (await readFile(`/sys/block/${device.slice('/dev/'.length)}/queue/logical_block_size`, 'utf8')).trim();

test.serial('one partition, its file system mounted, read-only; list shows both', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'sfdisk', 'mkfs.ext4', 'losetup')) return;
  const { image, folder } = await partedImage(t);
  const args = ['attach', '--read-only', '--partition', '2', '--mount', folder];
  const device = (await blockfuse([...args, image])).stdout.trim();
  t.regex(device, /^\/dev\/loop\d+$/);
  t.deepEqual(await readdir(folder), ['lost+found']);
  await t.throwsAsync(writeFile(join(folder, 'x'), ''), { code: 'EROFS' });
  t.is((await readFile(`/sys/block/${device.slice('/dev/'.length)}/ro`, 'utf8')).trim(), '1');
  const { stdout } = await blockfuse(['list']);
  t.regex(stdout, new RegExp(`${image}.*`));
  t.true(stdout.includes(device) && stdout.includes(folder), stdout);
  const servers = JSON.parse((await blockfuse(['list', '--json'])).stdout) as {
    mounts: { image: string; device?: string; folder?: string }[];
  }[];
  const ours = servers.flatMap(({ mounts }) => mounts).find((mount) => mount.image === image);
  t.like(ours, { device, folder });
  await detach(folder);
  await run('qemu-img', ['check', '-q', image]);
});

test.serial(
  'the whole disk: the kernel is asked to find its partitions; blocks are as large as asked for',
  async (t) => {
    if (!isRoot(t) || !canRun(t, 'qemu-img', 'sfdisk', 'mkfs.ext4', 'losetup')) return;
    const { image } = await partedImage(t);
    const small = (await blockfuse(['attach', image])).stdout.trim();
    t.is(await blockSize(small), '512');
    const name = small.slice('/dev/'.length);
    t.is((await readFile(`/sys/block/${name}/loop/partscan`, 'utf8')).trim(), '1');
    // Some kernels are built without any kind of partition table.
    const size = await readFile(`/sys/block/${name}/${name}p2/size`, 'utf8').catch(() => undefined);
    if (size === undefined) t.log('this kernel reads no partition tables');
    else t.is(size.trim(), String((48 * 2 ** 20) / 512));
    t.is((await readFile(`/sys/block/${name}/loop/dio`, 'utf8')).trim(), '1');
    await detach(small);
    const large = (await blockfuse(['attach', '--sector-size', '4096', image])).stdout.trim();
    t.is(await blockSize(large), '4096');
    await detach(image);
  },
);

/** As in a container: no loop devices, but /dev/fuse. */
const CONTAINER = `
  mount --make-rprivate / && touch "$1/fuse" && mount --bind /dev/fuse "$1/fuse" && mount -t tmpfs none /dev || exit 99
  mknod /dev/null c 1 3; mknod /dev/urandom c 1 9; touch /dev/fuse && mount --bind "$1/fuse" /dev/fuse
  shift; exec "$@"`;

test.serial('where loop devices can not exist it says what to do instead, and leaves nothing', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'sfdisk', 'mkfs.ext4', 'unshare')) return;
  const { image } = await partedImage(t);
  const command = [process.execPath, program(), 'attach', '-p', '2', image];
  const outcome = await attempt('unshare', [
    '-m',
    'sh',
    '-c',
    CONTAINER,
    'sh',
    join(image, '..'),
    ...command,
  ]);
  t.is(outcome.code, 1, outcome.stderr);
  t.regex(
    outcome.stderr,
    /^blockfuse: Cannot attach ".*2\.raw" to a loop device: there is no \/dev\/loop-control/,
  );
  t.regex(outcome.stderr, /"blockfuse mount".*the files of its partitions/);
  t.is(outcome.stderr.trimEnd().split('\n').length, 1, outcome.stderr);
  t.false((await blockfuse(['list', '--json'])).stdout.includes(image));
});

test.serial('a detach that somebody was in the way of is finished by the next one', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'sfdisk', 'mkfs.ext4', 'losetup', 'unshare')) return;
  const { image, folder } = await partedImage(t);
  const device = (await blockfuse(['attach', '--partition', '2', '--mount', folder, image])).stdout.trim();
  const file = await backingFile(device);
  // As a container does: a mount namespace that has a copy of the mount.
  const container = spawn(tool('unshare'), ['-m', 'sh', '-c', 'echo in; exec sleep infinity'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => container.kill('SIGKILL'));
  await once(container.stdout, 'data');
  const refused = await attemptBlockfuse(['detach', folder]);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /somebody still uses it .*detach again/);
  const ended = once(container, 'exit');
  container.kill('SIGKILL');
  await ended;
  await detach(device);
  t.false((await blockfuse(['list', '--json'])).stdout.includes(image));
  t.not(await backingFile(device), file);
  await run('qemu-img', ['check', '-q', image]);
});
