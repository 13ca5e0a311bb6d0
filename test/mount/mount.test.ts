import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import {
  chmod,
  chown,
  mkdir,
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
import { allocateAligned } from '../../src/sys/memory.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  fallocate,
  getxattr,
  KEEP_SIZE,
  listxattr,
  lseek,
  PUNCH_HOLE,
  SEEK_DATA,
  SEEK_HOLE,
  ZERO_RANGE,
} from './fixtures/calls.ts';
import { canMount, DISK_SIZE, mountDisk } from './fixtures/serve.ts';

const MIB = 1_048_576;
const SIZE = DISK_SIZE;
const DIRECT = fs.constants.O_RDWR | fs.constants.O_DIRECT;

async function opened(t: ExecutionContext, path: string, flags: string | number = 'r+') {
  const handle = await open(path, flags);
  t.teardown(() => handle.close());
  return handle;
}

/** Page-aligned, as O_DIRECT wants it. */
const pages = (count: number, fill = 0): Buffer => allocateAligned(count * 4096, 4096).fill(fill);

const pattern = (from: number, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 8) bytes.writeBigUInt64LE(BigInt(from + at), at);
  return bytes;
};

test('a directory shows the disk with its attributes', async (t) => {
  if (!canMount(t)) return;
  const { folder, path } = await mountDisk(t, { mtime: 1_600_000_000 });
  t.deepEqual(await readdir(folder), ['disk.raw', 'info']);
  const before = await stat(path);
  t.is(before.size, SIZE);
  t.is(before.blocks, 0);
  t.is(before.blksize, 65_536);
  t.is(before.mtimeMs, 1_600_000_000_000 + 5e-6);
  t.is(before.mode & 0o7777, 0o600);
  await sleep(1100);
  t.is((await stat(path)).mtimeMs, before.mtimeMs, 'mtime is stable');
  await readFile(path);
  t.is((await stat(path)).mtimeMs, before.mtimeMs, 'reading does not change it');
  const start = Date.now();
  await (await opened(t, path)).write(Buffer.from('x'), 0, 1, 100_000);
  const after = await stat(path);
  // The clock of file times stands still for some milliseconds at a time.
  t.true(after.mtimeMs > start - 1000 && after.mtimeMs < Date.now() + 1, 'writing does');
  t.is(after.blocks, 128);
  t.is(after.ino, before.ino);
});

for (const direct of [false, true]) {
  test(`what was written is read back, ${direct ? 'O_DIRECT' : 'buffered'}`, async (t) => {
    if (!canMount(t)) return;
    const { path, server } = await mountDisk(t);
    await server.tell({ do: 'fill' });
    await run('dd', ['if=/dev/urandom', `of=${path}.none`, 'bs=1', 'count=0']).catch(() => undefined);
    const flags = direct ? ['iflag=direct'] : [];
    const copy = join(await tempDir(t), 'copy');
    await run('dd', [`if=${path}`, `of=${copy}`, 'bs=1M', ...flags]);
    t.true((await readFile(copy)).equals(pattern(0, SIZE)));
    await writeFile(copy, pattern(7 * SIZE, 3 * MIB));
    const to = direct ? ['oflag=direct'] : [];
    await run('dd', [`if=${copy}`, `of=${path}`, 'bs=256k', 'seek=7', 'conv=notrunc,fsync', ...to]);
    const all = await readFile(path);
    const expected = pattern(0, SIZE);
    pattern(7 * SIZE, 3 * MIB).copy(expected, 7 * 262_144);
    t.true(all.equals(expected));
    const counters = (await server.tell({ do: 'counters' })) as { flushes: number };
    t.true(counters.flushes >= 1, 'fsync reached the root');
  });
}

test('unaligned and scattered requests of several processes keep their bytes', async (t) => {
  if (!canMount(t) || !canRun(t, 'fio')) return;
  const { path } = await mountDisk(t, { slowBelow: SIZE / 2, delay: 1 });
  const job = [
    '--ioengine=psync',
    `--filename=${path}`,
    '--verify=crc32c',
    '--do_verify=1',
    '--rw=randwrite',
  ];
  const one = ['--name=a', '--bsrange=1k-200k', '--bs_unaligned', '--size=4M', '--offset=0'];
  const two = ['--name=b', '--direct=1', '--bsrange=4k-256k', '--size=4M', '--offset=4M'];
  await run('fio', ['--verify_state_save=0', ...one, ...job, ...two, ...job]);
  t.pass();
});

test('reads end at the end, writes past it are ENOSPC', async (t) => {
  if (!canMount(t)) return;
  const { path } = await mountDisk(t, { size: 10_000 });
  const handle = await opened(t, path);
  const { bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 9000);
  t.is(bytesRead, 1000);
  t.is((await handle.read(Buffer.alloc(10), 0, 10, 10_000)).bytesRead, 0);
  await t.throwsAsync(handle.write(Buffer.from('abc'), 0, 3, 10_000), { code: 'ENOSPC' });
  t.is((await handle.write(Buffer.from('abc'), 0, 3, 9998)).bytesWritten, 2, 'what fits is written');
  t.is((await stat(path)).size, 10_000);
});

test('errors of the root reach the caller', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t, { badFrom: 1 * MIB });
  const handle = await opened(t, path, DIRECT);
  await t.throwsAsync(handle.read(pages(1), 0, 4096, MIB), { code: 'EIO' });
  t.is((await handle.read(pages(1), 0, 4096, 2 * MIB)).bytesRead, 4096);
  await server.tell({ do: 'set', full: true });
  await t.throwsAsync(handle.write(pages(1), 0, 4096, 0), { code: 'ENOSPC' });
  const buffered = await opened(t, path);
  await t.throwsAsync(buffered.write(Buffer.alloc(4096), 0, 4096, 0), { code: 'ENOSPC' });
});

test('a read-only disk refuses to be opened for writing', async (t) => {
  if (!canMount(t)) return;
  const { path } = await mountDisk(t, { writable: false });
  await t.throwsAsync(open(path, 'r+'), { code: 'EROFS' });
  await t.throwsAsync(truncate(path, 0), { code: 'EROFS' });
  t.is((await stat(path)).mode & 0o777, 0o400);
  t.is((await readFile(path)).length, SIZE);
});

test('mode, owner and times are kept', async (t) => {
  if (!canMount(t)) return;
  const { path } = await mountDisk(t);
  await chmod(path, 0o644);
  await chown(path, 12, 34);
  await utimes(path, 1000, 2000);
  const found = await stat(path);
  t.like(found, { uid: 12, gid: 34, atimeMs: 1_000_000, mtimeMs: 2_000_000 });
  t.is(found.mode & 0o777, 0o644);
});

test('truncation: ignored as O_TRUNC and refused else on a fixed size, done on a growable disk', async (t) => {
  if (!canMount(t)) return;
  const fixed = await mountDisk(t);
  await writeFile(fixed.path, 'over the start');
  t.is((await stat(fixed.path)).size, SIZE);
  t.is((await readFile(fixed.path)).toString('utf8', 0, 14), 'over the start');
  const handle = await opened(t, fixed.path);
  await t.throwsAsync(handle.truncate(100), { code: 'EPERM' });
  const growable = await mountDisk(t, { growable: true, size: 1000 });
  const grown = await opened(t, growable.path);
  await grown.truncate(5000);
  t.is((await stat(growable.path)).size, 5000);
  await grown.write(Buffer.from('end'), 0, 3, 9000);
  t.is((await stat(growable.path)).size, 9003);
  fallocate(grown.fd, 0, 9003, 1000);
  t.is((await stat(growable.path)).size, 10_003);
  await grown.truncate(10);
  t.is((await stat(growable.path)).size, 10);
});

test('fallocate punches, zeroes and refuses; seek finds data and holes', async (t) => {
  if (!canMount(t)) return;
  const { path } = await mountDisk(t);
  const handle = await opened(t, path);
  await handle.write(Buffer.alloc(MIB, 1), 0, MIB, MIB);
  t.is(lseek(handle.fd, 0, SEEK_DATA), MIB);
  t.is(lseek(handle.fd, MIB, SEEK_HOLE), 2 * MIB);
  t.is(lseek(handle.fd, 0, SEEK_HOLE), 0);
  t.throws(() => lseek(handle.fd, 3 * MIB, SEEK_DATA), { code: 'ENXIO' });
  t.is(lseek(handle.fd, SIZE - 1, SEEK_HOLE), SIZE - 1);
  fallocate(handle.fd, PUNCH_HOLE + KEEP_SIZE, MIB + 1000, 262_144);
  fallocate(handle.fd, ZERO_RANGE + KEEP_SIZE, 2 * MIB - 100, 50);
  const bytes = await readFile(path);
  t.true(bytes.subarray(MIB + 1000, MIB + 263_144).every((byte) => byte === 0));
  t.true(bytes.subarray(MIB, MIB + 1000).every((byte) => byte === 1));
  t.is(bytes[MIB + 263_144], 1);
  t.true(bytes.subarray(2 * MIB - 100, 2 * MIB - 50).every((byte) => byte === 0));
  t.is((await stat(path)).blocks * 512, MIB - 3 * 65_536);
  t.throws(
    () => {
      fallocate(handle.fd, 0, 0, 4096);
    },
    { code: 'ENOTSUP' },
  );
  t.throws(
    () => {
      fallocate(handle.fd, 0, SIZE, 4096);
    },
    { code: 'ENOSPC' },
  );
});

test('discard=off refuses holes', async (t) => {
  if (!canMount(t)) return;
  const { path } = await mountDisk(t, { discard: false });
  const handle = await opened(t, path);
  t.throws(
    () => {
      fallocate(handle.fd, PUNCH_HOLE + KEEP_SIZE, 0, 65_536);
    },
    { code: 'ENOTSUP' },
  );
});

test('extended attributes name node, driver and format', async (t) => {
  if (!canMount(t)) return;
  const { path, folder } = await mountDisk(t);
  t.deepEqual(listxattr(path), ['user.blockfuse.driver', 'user.blockfuse.format', 'user.blockfuse.node']);
  t.is(getxattr(path, 'user.blockfuse.node'), 'n0');
  t.throws(() => getxattr(path, 'user.other'), { code: 'ENODATA' });
  t.deepEqual(listxattr(folder), []);
});

test('generated texts and large directories are read', async (t) => {
  if (!canMount(t)) return;
  const { folder } = await mountDisk(t, { manyTexts: 1000 });
  t.is(await readFile(join(folder, 'info/about.txt'), 'utf8'), 'a generated text\n');
  const names = await readdir(join(folder, 'info'));
  t.is(names.length, 1001);
  t.is(await readFile(join(folder, 'info/text-0999'), 'utf8'), '999\n');
  await t.throwsAsync(writeFile(join(folder, 'info/about.txt'), ''), { code: 'EROFS' });
  await t.throwsAsync(readFile(join(folder, 'info/none')), { code: 'ENOENT' });
  await t.throwsAsync(mkdir(join(folder, 'new')), { code: 'ENOSYS' });
});

test('df shows the file system under the image', async (t) => {
  if (!canMount(t)) return;
  const { folder } = await mountDisk(t);
  const [over, under] = [await statfs(folder), await statfs(join(folder, '..'))];
  t.is(over.blocks, under.blocks);
  t.is(over.bsize, under.bsize);
  t.true(over.bavail > 0);
});

test.serial('a slow request does not hold up a fast one', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t, { slowBelow: MIB });
  const handle = await opened(t, path, DIRECT);
  let slowDone = 0;
  await server.tell({ do: 'hold' });
  const slow = [0, 1, 2].map(async (index) => {
    await run('dd', [`if=${path}`, 'of=/dev/null', 'iflag=direct', 'bs=4k', 'count=1', `skip=${index}`]);
    slowDone += 1;
  });
  await server.haveComeIn(3);
  for (let index = 0; index < 50; index += 1) await handle.read(pages(1), 0, 4096, 2 * MIB + index * 4096);
  t.is(slowDone, 0, 'the fast ones are through');
  await server.haveComeIn(3);
  await server.tell({ do: 'letGo' });
  await Promise.all(slow);
  t.is(slowDone, 3);
});

test('a drained export holds requests back and goes on', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t);
  const handle = await opened(t, path, DIRECT);
  await server.tell({ do: 'drainBegin' });
  let done = false;
  const write = handle.write(pages(1, 7), 0, 4096, 0).then(() => {
    done = true;
  });
  await sleep(200);
  t.false(done);
  t.is((await stat(path)).size, SIZE, 'attributes are answered meanwhile');
  await server.tell({ do: 'drainEnd' });
  await write;
  t.is((await readFile(path))[4095], 7);
});

test('a process that waits for a drained export can be killed', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t);
  await server.tell({ do: 'drainBegin' });
  const reader = spawn('dd', [`if=${path}`, 'of=/dev/null', 'iflag=direct'], { stdio: 'ignore' });
  const ended = once(reader, 'exit');
  await server.haveComeIn(1);
  reader.kill('SIGKILL');
  t.deepEqual(await ended, [null, 'SIGKILL']);
  await server.tell({ do: 'drainEnd' });
  t.is((await readFile(path)).length, SIZE);
});

test('what changed behind the kernel is seen after an invalidation', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t);
  const handle = await opened(t, path);
  await handle.read(Buffer.alloc(100), 0, 100, 5000);
  await server.tell({ do: 'poke', offset: 5000, text: 'poked' });
  const bytes = Buffer.alloc(5);
  await handle.read(bytes, 0, 5, 5000);
  t.is(bytes.toString(), 'poked');
});

test('O_DSYNC writes are forced to stable storage', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t);
  const handle = await opened(t, path, DIRECT + fs.constants.O_DSYNC);
  await handle.write(pages(1, 1), 0, 4096, 0);
  const counters = (await server.tell({ do: 'counters' })) as { fuaWrites: number; flushes: number };
  t.true(counters.fuaWrites + counters.flushes > 0);
});

test('page cache policy never: nothing is cached, shared mappings still work', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t, { pageCache: 'never' });
  const handle = await opened(t, path);
  await handle.read(Buffer.alloc(100), 0, 100, 0);
  await handle.read(Buffer.alloc(100), 0, 100, 0);
  const { reads } = (await server.tell({ do: 'counters' })) as { reads: number };
  t.is(reads, 2);
  const script =
    'import mmap,sys\nf=open(sys.argv[1],"r+b")\nm=mmap.mmap(f.fileno(),8192)\nm[5:8]=b"abc"\nm.flush()\n';
  await run('python3', ['-c', script, path]);
  t.is((await readFile(path)).toString('utf8', 5, 8), 'abc');
});
