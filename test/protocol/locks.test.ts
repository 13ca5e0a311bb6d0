import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import type { CommonOptions } from '../../src/block/schema.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, tool } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';
import type { Disk } from './open-disk.ts';
import { commonOptions, openDisk } from './open-disk.ts';

const { consistentRead, write, writeUnchanged, resize } = Permission;
/** What a format asks of the file of a writable image, and of a backing file. */
const FORMAT_WRITING = { used: consistentRead | write | resize, shared: consistentRead | writeUnchanged };
const FORMAT_READING = { used: consistentRead, shared: consistentRead | writeUnchanged };

async function image(t: ExecutionContext): Promise<string> {
  const filename = path.join(await tempDir(t), 'vm disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', filename, '1M']);
  return filename;
}

async function openFile(
  t: ExecutionContext,
  options: { filename: string; locking?: string },
  common: Partial<CommonOptions> = {},
): Promise<Disk> {
  const disk = await openDisk(fileDriver, options, common);
  t.teardown(() => disk.close());
  return disk;
}

/** Bytes locked by this process in a file, from /proc/locks' source: one line a lock. */
function ownLocks(filename: string): number[] {
  const { ino } = fs.statSync(filename);
  const bytes = new Set<number>();
  for (const fd of fs.readdirSync('/proc/self/fdinfo')) {
    const text = fs.existsSync(`/proc/self/fdinfo/${fd}`)
      ? fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')
      : '';
    for (const [, first, last] of text.matchAll(new RegExp(`OFDLCK.* READ .*:${ino} (\\d+) (\\d+)$`, 'gm'))) {
      for (let byte = Number(first); byte <= Number(last); byte += 1) bytes.add(byte);
    }
  }
  return [...bytes].sort((a, b) => a - b);
}

function start(t: ExecutionContext, name: string, args: string[]): ChildProcessWithoutNullStreams {
  const child = spawn(tool(name), args);
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

/** qemu-io that has the image open until it ends. */
async function startQemuIo(t: ExecutionContext, args: string[]): Promise<ChildProcessWithoutNullStreams> {
  const child = start(t, 'qemu-io', args);
  child.stdin.write('length\n');
  await once(child.stdout, 'data');
  return child;
}

test('the bytes are those that QEMU locks, and follow the permissions', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const filename = await image(t);
  const disk = await openFile(t, { filename });
  t.deepEqual(ownLocks(filename), []);
  disk.setPermissions?.(FORMAT_WRITING).commit();
  t.deepEqual(ownLocks(filename), [100, 101, 103, 201, 203]);
  const change = disk.setPermissions?.({ used: consistentRead | write, shared: ALL_PERMISSIONS });
  t.deepEqual(ownLocks(filename), [100, 101, 103, 201, 203]);
  change?.abort();
  t.deepEqual(ownLocks(filename), [100, 101, 103, 201, 203]);
  disk.setPermissions?.(FORMAT_READING).commit();
  t.deepEqual(ownLocks(filename), [100, 201, 203]);
  disk.setPermissions?.({ used: 0, shared: ALL_PERMISSIONS }).commit();
  t.deepEqual(ownLocks(filename), []);
});

test('force-share takes byte 100 alone and locking=off none', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const filename = await image(t);
  const off = await openFile(t, { filename, locking: 'off' });
  off.setPermissions?.(FORMAT_WRITING).commit();
  t.deepEqual(ownLocks(filename), []);
  const shared = await openFile(t, { filename }, { readOnly: true, forceShare: true });
  shared.setPermissions?.(FORMAT_READING).commit();
  t.deepEqual(ownLocks(filename), [100]);
});

test('a VM that writes is noticed and named; force-share and locking=off read anyway', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const filename = await image(t);
  const vm = await startQemuIo(t, ['-f', 'qcow2', filename]);
  const disk = await openFile(t, { filename }, { readOnly: true });
  const error = t.throws(() => disk.setPermissions?.(FORMAT_READING), { code: 'EBUSY' });
  t.log(error?.message);
  t.regex(
    error?.message ?? '',
    /Cannot lock image ".*vm disk.qcow2": Failed to get shared "write" lock: process/,
  );
  t.true(error?.message.includes(`process ${vm.pid} (qemu-io)`));
  t.regex(error?.message ?? '', /--force-share --read-only/);
  t.deepEqual(ownLocks(filename), []);
  const both = { used: consistentRead | write, shared: ALL_PERMISSIONS };
  t.throws(() => disk.setPermissions?.(both), { message: /Failed to get "write" lock/ });
  const shared = await openFile(t, { filename }, { readOnly: true, forceShare: true });
  shared.setPermissions?.(FORMAT_READING).commit();
  const off = await openFile(t, { filename, locking: 'off' });
  off.setPermissions?.(FORMAT_WRITING).commit();
  vm.stdin.end('quit\n');
  await once(vm, 'exit');
  disk.setPermissions?.(FORMAT_READING).commit();
  t.deepEqual(ownLocks(filename), [100, 201, 203]);
});

test('qemu-storage-daemon is named in full', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-storage-daemon')) return;
  const filename = await image(t);
  const socket = path.join(path.dirname(filename), 's');
  const daemon = start(t, 'qemu-storage-daemon', [
    ...['--blockdev', JSON.stringify({ driver: 'file', 'node-name': 'f', filename })],
    ...['--blockdev', 'qcow2,node-name=q,file=f', '--nbd-server', `addr.type=unix,addr.path=${socket}`],
    ...['--export', 'nbd,id=e,node-name=q,writable=on'],
  ]);
  await until(() => fs.existsSync(socket), 'qemu-storage-daemon');
  const disk = await openFile(t, { filename });
  const holder = `process ${daemon.pid} (qemu-storage-daemon)`;
  const isLocked = async (): Promise<boolean> => (await attempt('qemu-img', ['info', filename])).code !== 0;
  await until(isLocked, 'its locks');
  const error = t.throws(() => disk.setPermissions?.(FORMAT_WRITING), { code: 'EBUSY' });
  t.log(error?.message);
  t.true(error?.message.includes(holder));
});

test('QEMU notices us: as a writer, as a reader, and not after close', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const filename = await image(t);
  const disk = await openDisk(fileDriver, { filename });
  disk.setPermissions?.(FORMAT_WRITING).commit();
  const info = await attempt('qemu-img', ['info', filename]);
  t.regex(info.stderr, /Failed to get shared "write" lock/);
  t.is((await attempt('qemu-img', ['info', '-U', filename])).code, 0);
  disk.setPermissions?.(FORMAT_READING).commit();
  t.is((await attempt('qemu-img', ['info', filename])).code, 0);
  const writer = await attempt('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', filename]);
  t.regex(writer.stderr, /Failed to get "write" lock/);
  await disk.close();
  t.is((await attempt('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', filename])).code, 0);
});

test('reopening for writing and back never leaves the image unlocked', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const filename = await image(t);
  const disk = await openFile(t, { filename }, { readOnly: true });
  disk.setPermissions?.(FORMAT_READING).commit();
  const change = await disk.reopen?.(commonOptions(), { filename });
  t.deepEqual(ownLocks(filename), [100, 201, 203]);
  const locks = disk.setPermissions?.(FORMAT_WRITING);
  locks?.commit();
  change?.commit();
  t.deepEqual(ownLocks(filename), [100, 101, 103, 201, 203]);
  t.regex(
    (await attempt('qemu-io', ['-c', 'read 0 512', '-r', filename])).stderr,
    /Failed to get shared "write" lock/,
  );
  (await disk.reopen?.(commonOptions({ readOnly: true }), {}))?.commit();
  t.deepEqual(ownLocks(filename), [100, 101, 103, 201, 203]);
});

test('the same image twice in this process conflicts and says so', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const filename = await image(t);
  const first = await openFile(t, { filename });
  first.setPermissions?.(FORMAT_WRITING).commit();
  const second = await openFile(t, { filename });
  t.throws(() => second.setPermissions?.(FORMAT_WRITING), {
    message: new RegExp(`process ${process.pid} \\(.*this very process`),
  });
});
