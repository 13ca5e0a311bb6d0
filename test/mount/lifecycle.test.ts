import fs from 'node:fs';
import { chmod, chown, mkdir, open, readFile, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { allocateAligned } from '../../src/sys/memory.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, skip } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';
import { canMount, isMounted, mountDisk, NOBODY, serve, ServerFailure } from './fixtures/serve.ts';
import type { ServerOptions } from './fixtures/server.ts';

const MIB = 1_048_576;
/** For reading: who writes with O_DIRECT is served by this program (mount/operations/open.ts). */
const DIRECT = fs.constants.O_RDONLY | fs.constants.O_DIRECT;

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

test('the root of a mount can be the disk itself, over the image', async (t) => {
  if (!canMount(t)) return;
  const image = join(await tempDir(t), 'image');
  await writeFile(image, 'host bytes');
  const server = await serve(t, { mountpoint: image, source: image, size: MIB, root: 'file' });
  t.is((await stat(image)).size, MIB);
  const handle = await open(image, 'r+');
  await handle.write(Buffer.from('disk'), 0, 4, 500);
  await handle.close();
  t.is((await readFile(image)).toString('utf8', 500, 504), 'disk');
  t.true((await statfs(image)).blocks > 0);
  await server.tell({ do: 'unmount' });
  t.is(await server.ended(), 0);
  t.is(await readFile(image, 'utf8'), 'host bytes');
});

test('passthrough goes to the host file, mtime follows it', async (t) => {
  if (!canMount(t)) return;
  const host = join(await tempDir(t), 'host.raw');
  await writeFile(host, pattern(0, MIB));
  const { path, server } = await mountDisk(t, { hostFile: host, size: MIB, mtime: 1000 });
  if (!server.passthrough) return skip(t, 'this kernel has no FUSE passthrough');
  const handle = await opened(t, path);
  const direct = await opened(t, path, DIRECT);
  t.is((await stat(path)).mtimeMs, 1_000_000 + 5e-6);
  await handle.write(Buffer.from('through'), 0, 7, 4096);
  const bytes = pages(1);
  await direct.read(bytes, 0, 4096, 4096);
  t.is(bytes.toString('utf8', 0, 7), 'through');
  t.is((await readFile(host)).toString('utf8', 4096, 4103), 'through');
  t.is(((await server.tell({ do: 'counters' })) as { reads: number }).reads, 0, 'the server saw none of it');
  await sleep(1100);
  t.true((await stat(path)).mtimeMs > 1_600_000_000_000);
});

test('unmounting from outside and from inside ends the server', async (t) => {
  if (!canMount(t)) return;
  const outside = await mountDisk(t);
  await run('umount', [outside.folder]);
  t.is(await outside.server.ended(), 0);
  const inside = await mountDisk(t);
  const handle = await open(inside.path);
  await t.throwsAsync(inside.server.tell({ do: 'unmount' }), {
    code: 'EBUSY',
    message: /Cannot unmount ".*": .*busy/,
  });
  await handle.close();
  await inside.server.tell({ do: 'unmount' });
  t.is(await inside.server.ended(), 0);
  t.false(isMounted(inside.folder));
});

test('a mount whose connection is aborted is taken away', async (t) => {
  if (!canMount(t)) return;
  const { folder, path, server } = await mountDisk(t);
  const handle = await open(path);
  t.regex(
    (await attempt('umount', ['-f', folder])).stderr,
    /busy/,
    'the force goes as far as the connection',
  );
  t.is(await server.ended(), 0);
  t.false(isMounted(folder));
  await t.throwsAsync(handle.read(Buffer.alloc(10), 0, 10, 0), { code: 'ENOTCONN' });
  await t.throwsAsync(handle.close(), { code: 'ENOTCONN' });
});

test.serial('an idle mount uses no CPU', async (t) => {
  if (!canMount(t)) return;
  const { path, server } = await mountDisk(t);
  await readFile(path);
  // What the reader has left to do may take its time.
  const isIdle = async (): Promise<boolean> => {
    const before = cpuTicks(server.pid);
    await sleep(2000);
    return cpuTicks(server.pid) - before <= 1;
  };
  await t.notThrowsAsync(until(isIdle, 'two seconds without work'));
});

function cpuTicks(pid: number): number {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
  return Number(fields[13]) + Number(fields[14]);
}

test('an ordinary user mounts through fusermount3', async (t) => {
  if (!canMount(t) || !canRun(t, 'fusermount3', 'setpriv', 'unshare', 'nsenter')) return;
  const base = await tempDir(t);
  await chmod(base, 0o755);
  const folder = join(base, 'a, b\\c');
  await mkdir(folder);
  await chown(folder, NOBODY, NOBODY);
  const server = await serve(t, { mountpoint: folder, size: MIB, options: ['noexec'] }, 'nobody');
  const entry = server
    .mountTable()
    .split('\n')
    .find((line) => line.includes('a,\\040b'));
  t.regex(entry ?? '', /noexec.* - fuse\.blockfuse .*a,\\040b\\134c .*user_id=65534/);
  const asRoot = attempt('nsenter', ['-t', String(server.pid), '-m', 'ls', folder]);
  t.regex((await asRoot).stderr, /Permission denied/, 'even root does not see it');
  const script = 'cd "$0" && printf hello | dd of=disk.raw conv=notrunc 2>/dev/null && head -c 5 disk.raw';
  t.is((await server.run('sh', '-c', script, folder)).stdout, 'hello');
  await server.tell({ do: 'unmount' });
  t.is(await server.ended(), 0);
});

test('an ordinary user mounts over a file of his own', async (t) => {
  if (!canMount(t) || !canRun(t, 'fusermount3', 'setpriv', 'unshare', 'nsenter')) return;
  const base = await tempDir(t);
  await chmod(base, 0o755);
  const image = join(base, 'image');
  await writeFile(image, 'mine');
  await chown(image, NOBODY, NOBODY);
  const server = await serve(t, { mountpoint: image, source: image, size: MIB, root: 'file' }, 'nobody');
  t.is((await server.run('stat', '-c', '%s', image)).stdout, `${MIB}\n`);
  await server.run('fusermount3', '-u', image);
  t.is(await server.ended(), 0);
});

const refusals = test.macro(
  async (
    t: ExecutionContext,
    options: Partial<ServerOptions>,
    code: string,
    message: RegExp,
    as: 'root' | 'nobody' = 'root',
  ) => {
    if (!canMount(t)) return;
    const base = await tempDir(t);
    await writeFile(join(base, 'file'), '');
    const mountpoint = join(base, options.mountpoint ?? '');
    const error = await t.throwsAsync(serve(t, { size: MIB, ...options, mountpoint }, as), {
      instanceOf: ServerFailure,
    });
    t.is(error.code, code);
    t.regex(error.message, message);
    t.false(isMounted(mountpoint));
  },
);
test(
  'refused: no mount point',
  refusals,
  { mountpoint: 'none' },
  'ENOENT',
  /Cannot mount at ".*none": there is no such/,
);
test(
  'refused: a file for a directory',
  refusals,
  { mountpoint: 'file' },
  'ENOTDIR',
  /it is a file, a directory is wanted/,
);
test(
  'refused: a directory for a file',
  refusals,
  { root: 'file' },
  'EISDIR',
  /it is a directory, a file is wanted/,
);
test(
  'refused: an unknown option',
  refusals,
  { options: ['nonsense=1'] },
  'EINVAL',
  /mount option "nonsense=1": it is unknown/,
);
test('refused: not his directory', refusals, {}, 'EACCES', /permission denied/i, 'nobody');

test('loop devices: a file system is made, filled, trimmed and checked', async (t) => {
  if (!canMount(t) || !canRun(t, 'losetup', 'mkfs.ext4', 'fsck.ext4', 'fstrim')) return;
  const { path, folder } = await mountDisk(t, { size: 32 * MIB });
  const loop = (await run('losetup', ['--find', '--show', '--direct-io=on', path])).stdout.trim();
  t.teardown(() => run('losetup', ['-d', loop]));
  await run('mkfs.ext4', ['-q', '-F', loop]);
  const inner = join(folder, '../inner');
  await mkdir(inner);
  await run('mount', [loop, inner]);
  const content = pattern(5, 6 * MIB);
  await writeFile(join(inner, 'a'), content);
  t.true((await readFile(join(inner, 'a'))).equals(content));
  await run('sync', []);
  const full = (await stat(path)).blocks;
  await run('sh', ['-c', `rm '${inner}/a' && sync -f '${inner}' && fstrim '${inner}'`]);
  await run('umount', [inner]);
  await run('fsck.ext4', ['-f', '-n', loop]);
  await sleep(1100);
  t.true((await stat(path)).blocks < full - 8000);
});
