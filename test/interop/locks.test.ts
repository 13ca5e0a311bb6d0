/** QEMU's image locks, from both sides: a running VM is noticed, and notices us. */
import { spawn } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, tool } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

/** Opens an image in a program of QEMU's that keeps it open; resolves when it has its locks. */
type Hold = (
  t: ExecutionContext,
  image: string,
  format: string,
) => Promise<{ pid: number; end: () => Promise<void> }>;

const holdWithIo: Hold = async (t, image, format) => {
  const child = spawn(tool('qemu-io'), ['-f', format, image], { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const end = async (): Promise<void> => {
    child.stdin.end('quit\n');
    await gone;
  };
  t.teardown(end);
  child.stdin.write('length\n');
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return { pid: child.pid ?? 0, end };
};

const holdWithDaemon: Hold = async (t, image, format) => {
  const pidFile = `${image}.pid`;
  const drive = `driver=${format},node-name=d,file.driver=file,file.filename=${image}`;
  const socket = `addr.type=unix,addr.path=${image}.sock`;
  const args = [
    '--blockdev',
    drive,
    '--nbd-server',
    socket,
    '--export',
    'type=nbd,id=e,node-name=d,writable=on',
  ];
  const child = spawn(tool('qemu-storage-daemon'), [...args, '--pidfile', pidFile], { stdio: 'inherit' });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const end = async (): Promise<void> => {
    child.kill('SIGTERM');
    await gone;
  };
  t.teardown(end);
  const isUp = async (): Promise<boolean> => (await readFile(pidFile, 'utf8').catch(() => '')) !== '';
  await until(isUp, 'qemu-storage-daemon');
  return { pid: child.pid ?? 0, end };
};

async function newImage(t: ExecutionContext, format: string): Promise<{ image: string; mountpoint: string }> {
  const folder = await tempDir(t);
  const image = join(folder, `vm.${format}`);
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  await run('qemu-img', ['create', '-q', '-f', format, image, '8M']);
  await run('qemu-io', ['-f', format, '-c', 'write -P 0x42 0 1M', image]);
  return { image, mountpoint };
}

const refuses = test.macro(async (t: ExecutionContext, hold: Hold, format: string) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-storage-daemon')) return;
  const { image, mountpoint } = await newImage(t, format);
  const holder = await hold(t, image, format);
  for (const args of [[], ['--read-only']]) {
    const outcome = await attemptBlockfuse(['mount', '--format', format, ...args, image, mountpoint]);
    t.is(outcome.code, 1, outcome.stdout);
    t.regex(outcome.stderr, /Failed to get .*lock/);
    t.true(outcome.stderr.includes(String(holder.pid)), `names process ${holder.pid}: ${outcome.stderr}`);
  }
  const shared = await mountImage(t, image, ['--format', format, '--force-share', '--read-only']);
  t.true((await readFile(shared.file)).subarray(0, 1024 * 1024).every((byte) => byte === 0x42));
  await shared.unmount();
  await holder.end();
  const alone = await mountImage(t, image, ['--format', format]);
  await alone.unmount();
});

test('mount refuses a qcow2 image that qemu-io has open, and names it', refuses, holdWithIo, 'qcow2');
test('mount refuses a qcow2 image that a daemon has open, and names it', refuses, holdWithDaemon, 'qcow2');
test('mount refuses a raw image that qemu-io has open, and names it', refuses, holdWithIo, 'raw');

const isNoticed = test.macro(async (t: ExecutionContext, format: string) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { image } = await newImage(t, format);
  const mounted = await mountImage(t, image, ['--format', format]);
  if (format !== 'raw') {
    // QEMU's tools share everything on raw images: two of them do not refuse each other either.
    const refused = await attempt('qemu-img', ['info', '-f', format, image]);
    t.is(refused.code, 1);
    t.regex(refused.stderr, /Failed to get shared "write" lock/);
  }
  await run('qemu-img', ['info', '-U', '-f', format, image]);
  const writer = await attempt('qemu-io', ['-f', format, '-c', 'write 0 512', image]);
  t.regex(writer.stdout + writer.stderr, /Failed to get .*lock/);
  await mounted.unmount();
  await run('qemu-img', ['info', '-f', format, image]);
});

test('qemu-img notices a mounted qcow2 image', isNoticed, 'qcow2');
test('qemu-img notices a mounted raw image', isNoticed, 'raw');

test('read-only mounts of one image stand beside each other, and beside readers of QEMU', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { image } = await newImage(t, 'qcow2');
  const first = await mountImage(t, image, ['--read-only']);
  const second = await mountImage(t, image, ['--read-only']);
  await run('qemu-img', ['info', image]);
  await run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 0x42 0 1M', image]);
  t.true((await readFile(first.file)).equals(await readFile(second.file)));
});

test('a backing file is held against writers and shared with readers', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { image } = await newImage(t, 'qcow2');
  const overlay = `${image}.overlay`;
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', overlay]);
  const mounted = await mountImage(t, overlay);
  await run('qemu-img', ['info', image]);
  const writer = await attempt('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', image]);
  t.regex(writer.stdout + writer.stderr, /Failed to get .*lock/);
  await mounted.unmount();
});
