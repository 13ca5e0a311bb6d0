/** The one file that `npm run package` makes, where there is nothing else: no Node, no modules, no libraries of FUSE. */
import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, open, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { executable } from '../helpers/executable.ts';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome, RunOptions } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, skip } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const BARE: RunOptions = { env: { PATH: '/nonexistent' } };

let packaged: Promise<string> | undefined;

/** A folder that holds the executable, a qcow2 image and an empty folder. */
async function emptyFolder(t: ExecutionContext): Promise<{ folder: string; program: string }> {
  const program = await (packaged ??= executable());
  const folder = await tempDir(t);
  // A second name is enough, where the folder is on the same file system.
  await link(program, join(folder, 'blockfuse')).catch(() => copyFile(program, join(folder, 'blockfuse')));
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'disk.qcow2'), '64M']);
  await run('qemu-io', ['-c', 'write -P 7 1M 1M', join(folder, 'disk.qcow2')]);
  await mkdir(join(folder, 'mnt'));
  return { folder, program: join(folder, 'blockfuse') };
}

async function mount(
  t: ExecutionContext,
  folder: string,
  ...options: string[]
): Promise<{ pid: number; file: string }> {
  const { stdout } = await run(
    join(folder, 'blockfuse'),
    ['mount', '--json', ...options, 'disk.qcow2', 'mnt'],
    {
      ...BARE,
      cwd: folder,
    },
  );
  t.teardown(() => attempt('umount', ['-l', join(folder, 'mnt')]));
  return JSON.parse(stdout) as { pid: number; file: string };
}

const unmount = (folder: string): Promise<Outcome> =>
  run(join(folder, 'blockfuse'), ['unmount', join(folder, 'mnt')], BARE);

test.serial('the executable mounts a qcow2 with nothing beside it', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io') || !isRoot(t)) return;
  const { folder, program } = await emptyFolder(t);
  const before = await leftovers();
  const { pid, file } = await mount(t, folder);
  t.is(await readlink(`/proc/${pid}/exe`), program);
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
  t.true(environment.split('\0').includes('UV_THREADPOOL_SIZE=16'));
  const disk = await open(file, 'r+');
  t.teardown(() => disk.close().catch(() => undefined));
  const bytes = Buffer.alloc(4096);
  await disk.read(bytes, 0, 4096, 1_048_576);
  t.deepEqual(bytes, Buffer.alloc(4096, 7));
  await disk.write(Buffer.alloc(4096, 9), 0, 4096, 8_388_608);
  await disk.close();
  await unmount(folder);
  await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
  const { stdout } = await run('qemu-io', ['-c', 'read -P 9 8M 4k', join(folder, 'disk.qcow2')]);
  t.notRegex(stdout, /verification failed/);
  t.deepEqual(await leftovers(), before);
  t.deepEqual((await readdir(folder)).sort(), ['blockfuse', 'disk.qcow2', 'mnt']);
});

/** What the executable could have left of its libraries. */
async function leftovers(): Promise<string[]> {
  const names = await Promise.all(
    ['/dev/shm', '/tmp', '/var/tmp'].map(async (place) => readdir(place).catch(() => [])),
  );
  return names.flat().filter((name) => name.startsWith('.blockfuse-'));
}

test.serial('the time from start to ready is told', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io') || !isRoot(t)) return;
  const { folder } = await emptyFolder(t);
  const times: number[] = [];
  for (let tries = 0; tries < 5; tries += 1) {
    const start = performance.now();
    await mount(t, folder);
    times.push(performance.now() - start);
    await unmount(folder);
  }
  t.log(`ready after ${times.map(Math.round).join(', ')} ms`);
  t.is(times.length, 5);
});

test.serial('in the foreground it has its threads without starting again', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io') || !isRoot(t)) return;
  const { folder } = await emptyFolder(t);
  const served = run(join(folder, 'blockfuse'), ['mount', '--foreground', 'disk.qcow2', 'mnt'], {
    ...BARE,
    cwd: folder,
  });
  const pid = await serverOf(folder);
  // Threads that serve the pool are there once it was used.
  const threads = await readdir(`/proc/${pid}/task`);
  t.true(threads.length > 16, String(threads.length));
  await unmount(folder);
  t.regex((await served).stdout, /disk\.raw\n$/);
});

test.serial('the other transport is inside as well', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io') || !isRoot(t)) return;
  if (!existsSync(new URL('../../node_modules/fuse-native', import.meta.url)))
    return skip(t, 'the optional npm package fuse-native is not installed');
  const { folder } = await emptyFolder(t);
  const { file } = await mount(t, folder, '--transport=fuse-native');
  const disk = await open(file, 'r');
  const bytes = Buffer.alloc(4096);
  await disk.read(bytes, 0, 4096, 1_048_576);
  await disk.close();
  t.deepEqual(bytes, Buffer.alloc(4096, 7));
  await unmount(folder);
});

async function serverOf(folder: string): Promise<number> {
  let pid: number | undefined;
  const isListed = async (): Promise<boolean> => {
    const { stdout } = await attempt(join(folder, 'blockfuse'), ['list', '--json'], BARE);
    const servers = JSON.parse(stdout) as { pid: number; mounts: { mountpoint: string }[] }[];
    pid = servers.find(({ mounts }) => mounts[0]?.mountpoint === join(folder, 'mnt'))?.pid;
    return pid !== undefined;
  };
  await until(isListed, 'the server');
  return pid ?? 0;
}

const NO_FOLDER = /Cannot load "koffi\.node": no folder to run it from: \/dev\/shm \(/;

/** Hides a folder, or makes it one from which nothing can be run, for the rest of a script. */
const hide = (folder: string): string => `mount -t tmpfs -o noexec none ${folder};`;

interface Trouble {
  readonly prepare: string;
  readonly command: string;
  readonly expected: RegExp;
}

const oneLine = test.macro(async (t, { prepare, command, expected }: Trouble) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'unshare', 'setpriv') || !isRoot(t)) return;
  const { folder } = await emptyFolder(t);
  const script = `${prepare} env -i PATH=/nonexistent ./blockfuse ${command}`;
  const outcome = await attempt('unshare', ['-m', 'sh', '-c', script], { cwd: folder });
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, expected);
  t.is(outcome.stderr.trimEnd().split('\n').length, 1, outcome.stderr);
});

test.serial('one line says that /dev/fuse is missing', oneLine, {
  prepare: `${hide('/dev')} mknod /dev/null c 1 3; mknod /dev/urandom c 1 9;`,
  command: 'mount disk.qcow2 mnt',
  expected: /^blockfuse: Cannot open "\/dev\/fuse": it does not exist, the kernel module "fuse"/,
});
test.serial('one line says that fusermount3 is missing', oneLine, {
  prepare: 'chmod -R a+rwX . && setpriv --reuid=65534 --regid=65534 --clear-groups',
  command: 'mount disk.qcow2 mnt',
  expected: /^blockfuse: Cannot run "fusermount3": it is not installed/,
});
test.serial('one line says that no folder allows to run its libraries', oneLine, {
  prepare: ['/dev/shm', '/var/tmp', '/run', '/tmp'].map(hide).join(' '),
  command: 'info disk.qcow2',
  expected: NO_FOLDER,
});

test.serial('a server that can not start is no mystery', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'unshare') || !isRoot(t)) return;
  const { folder } = await emptyFolder(t);
  const script = `${['/dev/shm', '/var/tmp', '/run', '/tmp'].map(hide).join(' ')} env -i ./blockfuse mount disk.qcow2 mnt`;
  const outcome = await attempt('unshare', ['-m', 'sh', '-c', script], { cwd: folder });
  t.is(outcome.code, 1);
  // Whichever of the two processes needs it first says so.
  t.regex(
    outcome.stderr,
    /^blockfuse: Cannot (mount ".*disk\.qcow2": the server ended early\n|load "koffi\.node")/,
  );
  t.regex(outcome.stderr, NO_FOLDER);
});

test.serial('the executable unpacks on threads of its own', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'xz')) return;
  const { folder, program } = await emptyFolder(t);
  const raw = join(folder, 'disk.raw');
  await run('qemu-img', ['convert', '-O', 'raw', join(folder, 'disk.qcow2'), raw]);
  await run('xz', ['-k', '-0', raw]);
  await run(program, ['convert', '-O', 'raw', 'disk.raw.xz', 'again.raw'], { ...BARE, cwd: folder });
  t.is(Buffer.compare(await readFile(raw), await readFile(join(folder, 'again.raw'))), 0);
});
