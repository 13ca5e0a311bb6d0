import fs from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { Extent } from '../../src/block/extent.ts';
import type { CommonOptions } from '../../src/block/schema.ts';
import { libc } from '../../src/sys/libc.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, skip } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';
import type { Disk } from './open-disk.ts';
import { commonOptions, hostFd, openDisk } from './open-disk.ts';
import { playRequests } from './random-requests.ts';

const MIB = 2 ** 20;
const dup2 = libc.func('int dup2(int from, int to)') as (from: number, to: number) => number;

function memoryDir(t: ExecutionContext): string | undefined {
  if (!fs.existsSync('/dev/shm')) return undefined;
  const dir = fs.mkdtempSync('/dev/shm/blockfuse-test-');
  t.teardown(() => {
    fs.rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

async function openFile(
  t: ExecutionContext,
  filename: string,
  common: Partial<CommonOptions> = {},
): Promise<Disk> {
  const disk = await openDisk(fileDriver, { filename }, common);
  t.teardown(() => disk.close().catch(() => undefined));
  return disk;
}

const behavesAsBytes = test.macro(
  async (t, where: 'disk' | 'memory', common: Partial<CommonOptions>, unit: number) => {
    const dir = where === 'disk' ? await tempDir(t) : memoryDir(t);
    if (dir === undefined) {
      skip(t, 'no /dev/shm here');
      return;
    }
    const filename = path.join(dir, 'a.raw');
    const random = new Random(seed(unit));
    const start = random.bytes(2 * MIB);
    fs.writeFileSync(filename, start);
    const disk = await openFile(t, filename, common);
    const model = await playRequests(disk, start, { random, unit, count: 300, growth: 8192 });
    await disk.flush();
    t.true(fs.readFileSync(filename).equals(model));
    t.is(disk.size, model.length);
  },
);

test('bytes are where they belong: page cache', behavesAsBytes, 'disk', {}, 1);
test('bytes are where they belong: tmpfs', behavesAsBytes, 'memory', {}, 1);
test('bytes are where they belong: O_DIRECT', behavesAsBytes, 'disk', { cacheDirect: true }, 4096);

test('requests at 2^32, 2^41 and the last byte of 15 TiB reach their place', async (t) => {
  const filename = path.join(await tempDir(t), 'big.raw');
  const size = 15 * 2 ** 40;
  fs.writeFileSync(filename, '');
  fs.truncateSync(filename, size);
  const disk = await openFile(t, filename);
  for (const offset of [2 ** 32 - 2, 2 ** 41 + 5, size - 4]) {
    const bytes = Buffer.from(`${offset}`.slice(0, 4));
    await until(() => disk.tryWrite(bytes, 0, 4, offset), 'a write without waiting');
    const fd = fs.openSync(filename, 'r');
    const seen = Buffer.alloc(4);
    fs.readSync(fd, seen, 0, 4, offset);
    fs.closeSync(fd);
    t.deepEqual(seen, bytes);
    t.true(disk.tryRead(seen.fill(0), 0, 4, offset));
    t.deepEqual(seen, bytes);
  }
  t.is(disk.size, size);
  const out = new Extent();
  disk.tryStatus?.(2 ** 33, size, out);
  t.deepEqual([out.kind, out.length], ['zero', 2 ** 41 - 2 ** 33]);
  t.true(disk.allocatedSize() <= 256 * 1024);
});

test('tryRead answers from the page cache only and leaves cold data to read', async (t) => {
  if (!canRun(t, 'dd')) return;
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, Buffer.alloc(4 * MIB, 'abcd'));
  const disk = await openFile(t, filename, { readOnly: true });
  const bytes = Buffer.alloc(4096);
  // The kernel keeps what somebody else holds just then.
  let isCold = false;
  for (let tries = 0; tries < 50 && !isCold; tries += 1) {
    await run('dd', [`of=${filename}`, 'conv=notrunc,fdatasync', 'oflag=nocache', 'count=0']);
    isCold = !disk.tryRead(bytes, 0, 4096, MIB);
  }
  t.true(isCold);
  await disk.read(bytes, MIB);
  t.is(bytes.toString('latin1', 0, 4), 'abcd');
  t.true(disk.tryRead(bytes.fill(0), 0, 4096, MIB));
  t.is(bytes.toString('latin1', 4092), 'abcd');
});

test('tryRead refuses a place outside the buffer instead of writing over other memory', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, Buffer.alloc(8192, 1));
  const disk = await openFile(t, filename);
  t.throws(() => disk.tryRead(Buffer.alloc(4096), 1, 4096, 0), { code: 'EINVAL' });
  t.throws(() => disk.tryWrite(Buffer.alloc(4096), -1, 4096, 0), { code: 'EINVAL' });
});

test('a file that got shorter reads as zeroes behind its end', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, Buffer.alloc(8192, 1));
  const disk = await openFile(t, filename);
  fs.truncateSync(filename, 100);
  const bytes = Buffer.alloc(200, 7);
  t.false(disk.tryRead(bytes, 0, 200, 0));
  await disk.read(bytes, 0);
  t.deepEqual(bytes, Buffer.concat([Buffer.alloc(100, 1), Buffer.alloc(100)]));
});

test('holes: unmapped, zeroed, discarded, found, and the space is given back', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, Buffer.alloc(4 * MIB, 5));
  const disk = await openFile(t, filename);
  const full = disk.allocatedSize();
  const out = new Extent();
  disk.tryStatus?.(0, 4 * MIB, out);
  t.deepEqual([out.kind, out.offset, out.length, out.writable], ['data', 0, 4 * MIB, true]);
  await disk.writeZeroes(MIB, MIB, ZeroFlag.mayUnmap);
  t.true(full - disk.allocatedSize() >= MIB);
  disk.tryStatus?.(4096, 4 * MIB, out);
  t.deepEqual([out.kind, out.length], ['data', MIB - 4096]);
  disk.tryStatus?.(MIB, 4 * MIB, out);
  t.deepEqual([out.kind, out.length], ['zero', MIB]);
  const before = disk.allocatedSize();
  await disk.writeZeroes(2 * MIB, MIB, ZeroFlag.fua);
  t.is(disk.allocatedSize(), before);
  await disk.discard(3 * MIB, 9 * MIB);
  t.is(disk.size, 4 * MIB);
  t.true(full - disk.allocatedSize() >= 2 * MIB);
  t.true(
    fs
      .readFileSync(filename)
      .subarray(MIB)
      .equals(Buffer.alloc(3 * MIB)),
  );
  t.true(disk.tryStatus?.(4 * MIB, 1, out));
  t.is(out.kind, 'eof');
});

test('resize grows with zeroes and shrinks only when asked to', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, 'abcdef');
  const disk = await openFile(t, filename);
  await disk.resize?.(10, false);
  t.is(fs.readFileSync(filename, 'latin1'), 'abcdef\0\0\0\0');
  await t.throwsAsync(async () => disk.resize?.(3, false), {
    code: 'EINVAL',
    message: /shrinking was not asked for/,
  });
  await disk.resize?.(3, true);
  t.is(fs.readFileSync(filename, 'latin1'), 'abc');
  t.is(disk.size, 3);
});

const refusesToOpen = test.macro(
  async (t, make: (dir: string) => Promise<string>, code: string, message: RegExp) => {
    const filename = await make(await tempDir(t));
    const error = await t.throwsAsync(openDisk(fileDriver, { filename }), { code, message });
    t.true(error?.message.includes(`"${filename}"`));
  },
);
test('open: missing', refusesToOpen, async (dir) => path.join(dir, 'no'), 'ENOENT', /no such file/);
test(
  'open: directory',
  refusesToOpen,
  async (dir) => dir,
  'EISDIR',
  /is a directory, a regular file was wanted/,
);
test('open: character device', refusesToOpen, async () => '/dev/null', 'ENOTSUP', /is a character device/);
test(
  'open: FIFO, at once',
  refusesToOpen,
  async (dir) => {
    await run('mkfifo', [path.join(dir, 'f')]);
    return path.join(dir, 'f');
  },
  'ENOTSUP',
  /is a FIFO/,
);

test('read-only and force-share', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, 'abc');
  await t.throwsAsync(openFile(t, filename, { forceShare: true }), {
    code: 'EINVAL',
    message: /add read-only=on/,
  });
  const disk = await openFile(t, filename, { readOnly: true, forceShare: true });
  await t.throwsAsync(disk.write(Buffer.from('x'), 0, 0), { message: /Cannot write to ".*a.raw"/ });
  t.is(fs.readFileSync(filename, 'latin1'), 'abc');
});

test('auto-read-only falls back where writing is not permitted', async (t) => {
  if (!isRoot(t) || !canRun(t, 'chattr')) return;
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, 'abc');
  await run('chattr', ['+i', filename]);
  t.teardown(() => run('chattr', ['-i', filename]));
  await t.throwsAsync(openFile(t, filename), { code: 'EPERM', message: /for writing/ });
  const disk = await openFile(t, filename, { autoReadOnly: true });
  t.true(disk.readOnly);
  const out = new Extent();
  disk.tryStatus?.(0, 3, out);
  t.false(out.writable);
  await disk.close();
});

test('reopen: read-only to writable and back, on another descriptor', async (t) => {
  const dir = await tempDir(t);
  const filename = path.join(dir, 'a.raw');
  fs.writeFileSync(filename, 'abc');
  const disk = await openFile(t, filename, { readOnly: true });
  const first = disk.hostFd;
  fs.renameSync(filename, path.join(dir, 'b.raw'));
  const aborted = await disk.reopen?.(commonOptions(), { filename, locking: 'auto' });
  aborted?.abort();
  t.is(disk.hostFd, first);
  const change = await disk.reopen?.(commonOptions(), { filename });
  change?.commit();
  t.not(disk.hostFd, first);
  await disk.write(Buffer.from('X'), 1, 0);
  t.is(fs.readFileSync(path.join(dir, 'b.raw'), 'latin1'), 'aXc');
  (await disk.reopen?.(commonOptions({ readOnly: true }), {}))?.commit();
  await t.throwsAsync(disk.write(Buffer.from('Y'), 1, 0), { code: 'EBADF' });
  await t.throwsAsync(async () => disk.reopen?.(commonOptions(), { filename: '/other' }), {
    message: /filename can't change/,
  });
});

test.serial('reopen: requests that wait for a thread meanwhile never meet another file', async (t) => {
  const dir = await tempDir(t);
  const filename = path.join(dir, 'a.raw');
  const other = path.join(dir, 'other');
  const start = Buffer.alloc(64 * 65536, 1);
  for (const name of [filename, other]) fs.writeFileSync(name, start);
  const disk = await openFile(t, filename);
  const first = hostFd(disk);
  const change = await disk.reopen?.(commonOptions(), {});
  const written = Array.from({ length: 32 }, (_, index) =>
    disk.write(Buffer.alloc(65536, 2), index * 65536, 0),
  );
  const punched = Array.from({ length: 32 }, (_, index) => disk.discard((32 + index) * 65536, 65536));
  const flushed = disk.flush();
  change?.commit();
  const victims = Array.from({ length: 8 }, () => fs.openSync(other, 'r+'));
  await Promise.all([...written, ...punched, flushed]);
  t.true(fs.readFileSync(other).equals(start));
  t.true(fs.readFileSync(filename).equals(Buffer.alloc(64 * 65536).fill(2, 0, 32 * 65536)));
  for (const victim of victims) fs.closeSync(victim);
  await disk.write(Buffer.from('x'), 0, 0);
  await t.notThrowsAsync(disk.flush());
  t.false(fs.existsSync(`/proc/self/fd/${first}`));
});

test('a closed file refuses what comes late: its number may be that of another file', async (t) => {
  const dir = await tempDir(t);
  const filename = path.join(dir, 'a.raw');
  const other = path.join(dir, 'other');
  for (const name of [filename, other]) fs.writeFileSync(name, Buffer.alloc(65536, 1));
  const disk = await openDisk(fileDriver, { filename });
  const fd = hostFd(disk);
  await disk.close();
  const victims: number[] = [];
  while (!victims.includes(fd) && victims.length < 64) victims.push(fs.openSync(other, 'r+'));
  t.false(disk.tryWrite(Buffer.alloc(512), 0, 512, 0));
  await t.throwsAsync(disk.write(Buffer.alloc(512), 0, 0), { code: 'EBADF' });
  await t.throwsAsync(disk.discard(0, 4096), { code: 'EBADF' });
  await t.throwsAsync(disk.writeZeroes(0, 4096, 0), { code: 'EBADF' });
  t.true(fs.readFileSync(other).equals(Buffer.alloc(65536, 1)));
  for (const victim of victims) fs.closeSync(victim);
});

test.serial('a failed flush is reported by every later one and by close, until reopened', async (t) => {
  const dir = await tempDir(t);
  const filename = path.join(dir, 'a.raw');
  fs.writeFileSync(filename, 'abc');
  const disk = await openDisk(fileDriver, { filename });
  const fd = hostFd(disk);
  // A descriptor that can't be flushed, in place of the file's: the number stays taken all the time.
  const broken = fs.openSync('/dev/null', 'r+');
  const working = fs.openSync(filename, 'r+');
  t.is(dup2(broken, fd), fd);
  await t.throwsAsync(disk.flush(), { code: 'EINVAL', message: /Cannot flush ".*a.raw"/ });
  t.is(dup2(working, fd), fd);
  await t.throwsAsync(disk.flush(), { code: 'EINVAL' });
  (await disk.reopen?.(commonOptions(), {}))?.commit();
  await t.notThrowsAsync(disk.flush());
  t.is(dup2(broken, hostFd(disk)), hostFd(disk));
  await t.throwsAsync(disk.close(), { code: 'EINVAL' });
  for (const spare of [broken, working]) fs.closeSync(spare);
});

test('flushes that come together share the work, and all resolve', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  fs.writeFileSync(filename, 'abc');
  const disk = await openFile(t, filename);
  let waiting = 0;
  for (let round = 0; round < 50; round += 1) {
    await disk.write(Buffer.from('x'), round, 0);
    waiting += 1;
    void disk.flush().then(() => (waiting -= 1));
  }
  await disk.flush();
  await disk.flush();
  t.is(waiting, 0);
});

test('a full file system answers ENOSPC, and what was there stays', async (t) => {
  if (!isRoot(t) || !canRun(t, 'mount', 'umount')) return;
  const dir = await tempDir(t);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'blockfuse-test', dir]);
  t.teardown(() => run('umount', ['-l', dir]));
  const filename = path.join(dir, 'a.raw');
  fs.writeFileSync(filename, Buffer.alloc(4096, 1));
  fs.truncateSync(filename, 4 * MIB);
  const disk = await openFile(t, filename);
  const bytes = Buffer.alloc(2 * MIB, 2);
  t.false(disk.tryWrite(bytes, 0, bytes.length, MIB));
  await t.throwsAsync(disk.write(bytes, MIB, 0), {
    code: 'ENOSPC',
    message: /Cannot write to .*no space left/,
  });
  const seen = Buffer.alloc(4096);
  t.true(disk.tryRead(seen, 0, 4096, 0));
  t.deepEqual(seen, Buffer.alloc(4096, 1));
  await disk.close();
});

test('O_DIRECT: alignment is reported, nothing is tried at once, odd memory and an odd end are served', async (t) => {
  const filename = path.join(await tempDir(t), 'a.raw');
  const content = new Random(seed(9)).bytes(10_000);
  fs.writeFileSync(filename, content);
  const disk = await openFile(t, filename, { cacheDirect: true });
  const { requestAlignment: unit, memoryAlignment } = disk.limits;
  t.true(unit >= 512 && unit <= 4096 && memoryAlignment >= 1);
  t.false(disk.tryRead(Buffer.alloc(unit), 0, unit, 0));
  const bytes = Buffer.alloc(12_288 + 3, 7).subarray(3);
  await disk.read(bytes, 0);
  t.true(bytes.subarray(0, 10_000).equals(content));
  t.true(bytes.subarray(10_000).equals(Buffer.alloc(2288)));
  await disk.write(bytes.subarray(0, 4096), 4096, 0);
  t.true(fs.readFileSync(filename).subarray(4096, 8192).equals(content.subarray(0, 4096)));
});
