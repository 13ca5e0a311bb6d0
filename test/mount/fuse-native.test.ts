/** The tree over the npm package fuse-native: what the mount promises, less what this transport lacks. */
import {
  chmod,
  chown,
  open,
  readdir,
  readFile,
  stat,
  statfs,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { attemptBlockfuse } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, skip } from '../helpers/tools.ts';
import { fallocate, getxattr, listxattr, PUNCH_HOLE } from './fixtures/calls.ts';
import { canMount, DISK_SIZE, isMounted, mountDisk } from './fixtures/serve.ts';
import type { MountedDisk } from './fixtures/serve.ts';
import type { ServerOptions } from './fixtures/server.ts';

const MIB = 1_048_576;

async function mounted(
  t: ExecutionContext,
  options: Partial<ServerOptions> = {},
): Promise<MountedDisk | undefined> {
  if (!canMount(t)) return undefined;
  try {
    return await mountDisk(t, { ...options, transport: 'fuse-native' });
  } catch (error) {
    if (!String(error).includes('Cannot load the npm package')) throw error;
    skip(t, 'the optional npm package fuse-native is not installed');
    return undefined;
  }
}

async function opened(t: ExecutionContext, path: string, flags = 'r+') {
  const handle = await open(path, flags);
  t.teardown(() => handle.close().catch(() => undefined));
  return handle;
}

const pattern = (from: number, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 8) bytes.writeBigUInt64LE(BigInt(from + at), at);
  return bytes;
};

test('fuse-native: a directory shows the disk with its attributes', async (t) => {
  const disk = await mounted(t, { mtime: 1_600_000_000 });
  if (disk === undefined) return;
  t.deepEqual(await readdir(disk.folder), ['disk.raw', 'info']);
  const before = await stat(disk.path);
  t.like(before, { size: DISK_SIZE, blocks: 0, blksize: 65_536, mtimeMs: 1_600_000_000_000 });
  t.is(before.mode & 0o7777, 0o600);
  await readFile(disk.path);
  t.is((await stat(disk.path)).mtimeMs, before.mtimeMs);
  const start = Date.now();
  await (await opened(t, disk.path)).write(Buffer.from('x'), 0, 1, 100_000);
  await sleep(1100);
  const after = await stat(disk.path);
  t.true(after.mtimeMs > start - 1000 && after.mtimeMs < Date.now());
  t.is(after.blocks, 128);
  t.is(after.ino, before.ino);
  t.regex(disk.server.mountTable(), new RegExp(`${disk.folder} .* - fuse\\.blockfuse `));
});

test('fuse-native: what several processes write at once is read back', async (t) => {
  const disk = await mounted(t, { slowBelow: MIB, delay: 2 });
  if (disk === undefined) return;
  const script = `dd if=/dev/urandom of=$1 bs=7001 count=100 2>/dev/null; dd if=$1 of=${disk.path} bs=7001 seek=$2 conv=notrunc oflag=seek_bytes 2>/dev/null
    dd if=${disk.path} bs=7001 skip=$2 iflag=skip_bytes count=100 2>/dev/null | cmp - $1`;
  const folder = await tempDir(t);
  const places = [0, 1, 2, 3, 4, 5].map((number) => number * MIB + 333);
  await Promise.all(
    places.map((at) => run('sh', ['-c', script, 'sh', join(folder, String(at)), String(at)])),
  );
  const handle = await opened(t, disk.path);
  await handle.write(pattern(0, DISK_SIZE), 0, DISK_SIZE, 0);
  await handle.sync();
  t.true(pattern(0, DISK_SIZE).equals(await readFile(disk.path)));
  t.like(await disk.server.tell({ do: 'counters' }), { flushes: 1 });
});

test('fuse-native: reads end at the end, writes past it are ENOSPC, errors arrive', async (t) => {
  const disk = await mounted(t, { badFrom: 65_536 });
  if (disk === undefined) return;
  const handle = await opened(t, disk.path);
  t.is((await handle.read(Buffer.alloc(100), 0, 100, DISK_SIZE - 40)).bytesRead, 40);
  t.is((await handle.read(Buffer.alloc(100), 0, 100, DISK_SIZE + 40)).bytesRead, 0);
  await t.throwsAsync(handle.write(Buffer.alloc(100), 0, 100, DISK_SIZE), { code: 'ENOSPC' });
  await t.throwsAsync(handle.read(Buffer.alloc(100), 0, 100, 65_600), { code: 'EIO' });
  await disk.server.tell({ do: 'set', full: true });
  await t.throwsAsync(handle.write(Buffer.alloc(100), 0, 100, 0), { code: 'ENOSPC' });
  await t.throwsAsync(open(join(disk.folder, 'nothing')), { code: 'ENOENT' });
  t.throws(() => fallocate(handle.fd, PUNCH_HOLE, 0, 65_536), { message: /EOPNOTSUPP|ENOTSUP/ });
});

test('fuse-native: read-only, mode, owner and times', async (t) => {
  const sealed = await mounted(t, { writable: false });
  if (sealed === undefined) return;
  await t.throwsAsync(open(sealed.path, 'r+'), { code: 'EROFS' });
  t.is((await readFile(sealed.path)).length, DISK_SIZE);
  const disk = await mounted(t);
  if (disk === undefined) return;
  await chmod(disk.path, 0o640);
  await chown(disk.path, 1, 2);
  // The package takes the time of access for both: they are the same here.
  await utimes(disk.path, 1_500_000_000.25, 1_500_000_000.25);
  const found = await stat(disk.path);
  t.like(found, { uid: 1, gid: 2, atimeMs: 1_500_000_000_250, mtimeMs: 1_500_000_000_250 });
  t.is(found.mode & 0o7777, 0o640);
});

test('fuse-native: truncation of fixed and growable disks', async (t) => {
  const fixed = await mounted(t);
  if (fixed === undefined) return;
  await writeFile(fixed.path, 'start');
  t.is((await stat(fixed.path)).size, DISK_SIZE);
  await t.throwsAsync(truncate(fixed.path, 4096), { code: 'EPERM' });
  await t.throwsAsync((await opened(t, fixed.path)).truncate(4096), { code: 'EPERM' });
  const growable = await mounted(t, { growable: true });
  if (growable === undefined) return;
  const handle = await opened(t, growable.path);
  await handle.truncate(4096);
  t.is((await stat(growable.path)).size, 4096);
  await handle.write(Buffer.from('end'), 0, 3, 10_000);
  t.is((await stat(growable.path)).size, 10_003);
});

test('fuse-native: extended attributes, generated texts, df', async (t) => {
  const disk = await mounted(t, { manyTexts: 600 });
  if (disk === undefined) return;
  const names = ['driver', 'format', 'node'].map((name) => `user.blockfuse.${name}`);
  t.deepEqual(listxattr(disk.path).sort(), names);
  t.is(getxattr(disk.path, 'user.blockfuse.driver'), 'mem');
  t.throws(() => getxattr(disk.path, 'user.blockfuse.other'), { message: /ENODATA/ });
  t.is(await readFile(join(disk.folder, 'info/about.txt'), 'utf8'), 'a generated text\n');
  t.is((await readdir(join(disk.folder, 'info'))).length, 601);
  const [there, here] = [await statfs(disk.folder), await statfs(join(disk.folder, '..'))];
  t.is(there.blocks, here.blocks);
  t.is(there.bsize, here.bsize);
});

test('fuse-native: a drained export holds requests back', async (t) => {
  const disk = await mounted(t);
  if (disk === undefined) return;
  const handle = await opened(t, disk.path);
  await disk.server.tell({ do: 'drainBegin' });
  let isDone = false;
  const writing = handle.write(Buffer.from('held'), 0, 4, 0).then(() => (isDone = true));
  await sleep(300);
  t.false(isDone);
  await disk.server.tell({ do: 'drainEnd' });
  await writing;
  t.is((await handle.read(Buffer.alloc(4), 0, 4, 0)).buffer.toString(), 'held');
});

test('fuse-native: an unmount from outside ends the server, a lazy one when nobody uses the disk', async (t) => {
  const disk = await mounted(t);
  if (disk === undefined) return;
  const handle = await opened(t, disk.path);
  t.not((await attempt('umount', [disk.folder])).code, 0);
  await handle.close();
  await run('umount', [disk.folder]);
  t.is(await disk.server.ended(), 0);
  const other = await mounted(t);
  if (other === undefined) return;
  const held = await opened(t, other.path);
  await run('umount', ['-l', other.folder]);
  t.false(isMounted(other.folder));
  await held.write(Buffer.from('late'), 0, 4, 0);
  t.is((await held.read(Buffer.alloc(4), 0, 4, 0)).buffer.toString(), 'late');
  await held.close();
  t.is(await other.server.ended(), 0);
});

test('fuse-native: the command mounts an image by it, says what it lacks, and leaves it final', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io') || !canMount(t)) return;
  const folder = await tempDir(t);
  const [image, mnt] = [join(folder, 'a,b.qcow2'), join(folder, 'mnt')];
  await run('mkdir', [mnt]);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  t.teardown(() => attemptBlockfuse(['unmount', '--lazy', mnt]));
  const args = ['mount', '--transport', 'fuse-native', '--node-name', 'n'];
  const outcome = await attemptBlockfuse([...args, image, mnt]);
  if (outcome.stderr.includes('Cannot load the npm package')) return skip(t, 'fuse-native is not installed');
  t.is(outcome.code, 0, outcome.stderr);
  t.regex(outcome.stderr, /^blockfuse: warning: the transport fuse-native has no discard, no holes/);
  t.regex(
    await readFile('/proc/self/mounts', 'utf8'),
    new RegExp(`a,b\\.qcow2 ${mnt} fuse\\.blockfuse rw,nosuid,nodev`),
  );
  const handle = await opened(t, join(mnt, 'n.raw'));
  await handle.write(pattern(0, MIB), 0, MIB, 3 * MIB);
  await handle.close();
  t.is((await attemptBlockfuse(['unmount', mnt])).code, 0);
  await run('qemu-img', ['check', '-q', image]);
  await run('qemu-img', ['convert', '-O', 'raw', image, join(folder, 'flat')]);
  t.true((await readFile(join(folder, 'flat'))).subarray(3 * MIB, 4 * MIB).equals(pattern(0, MIB)));
  const onFile = await attemptBlockfuse([...args, image, image]);
  t.is(onFile.code, 1);
  t.regex(onFile.stderr, /the fuse-native transport needs a directory/);
});
