/** Dirty bitmaps inside an image: the command, on a file and on a mounted image, and as files beside the disk. */
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { bitmapText, tryTextLength } from '../../src/cli/server/bitmap-text.ts';
import { DirtyBitmap } from '../../src/block/dirty-bitmap.ts';
import { qemuExtents } from '../helpers/dirty-extents.ts';
import type { DirtyExtents } from '../helpers/dirty-extents.ts';
import { isAlive, mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { getxattr } from './fixtures/calls.ts';

const MIB = 2 ** 20;

interface Extent {
  readonly start: number;
  readonly length: number;
  readonly dirty: boolean;
}

async function makeImage(t: ExecutionContext, options = 'cluster_size=64k'): Promise<string> {
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, '8M']);
  return image;
}

const bitmap = (...args: string[]) => blockfuse(['bitmap', ...args]);

/** All of the disk in order; the dirty ones. */
function dirtyOf(t: ExecutionContext, text: string, size = 8 * MIB): DirtyExtents {
  const extents = JSON.parse(text) as readonly Extent[];
  let at = 0;
  for (const { start, length } of extents) {
    t.is(start, at);
    at += length;
  }
  t.is(at, size);
  return extents.filter(({ dirty }) => dirty).map(({ start, length }) => [start, length]);
}

const show = async (t: ExecutionContext, image: string, name: string): Promise<DirtyExtents> =>
  dirtyOf(t, (await bitmap('show', '--json', image, name)).stdout);

async function list(image: string): Promise<readonly Record<string, unknown>[]> {
  return JSON.parse((await bitmap('list', '--json', image)).stdout) as Record<string, unknown>[];
}

async function writeAt(file: string, bytes: Buffer, at: number): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(bytes, 0, bytes.length, at);
  await handle.sync();
  await handle.close();
}

test('bitmap: every action on a file, as QEMU sees it', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo')) return;
  const image = await makeImage(t);
  t.is((await bitmap('list', image)).stdout, '');
  await bitmap('add', image, 'one');
  await bitmap('add', '--granularity', '4k', '--disabled', image, 'two');
  await run('qemu-io', ['-c', 'write 1M 100k', image]);
  t.deepEqual(await list(image), [
    { name: 'one', recording: true, persistent: true, busy: false, granularity: 65536, count: 2 * 65536 },
    { name: 'two', recording: false, persistent: true, busy: false, granularity: 4096, count: 0 },
  ]);
  await bitmap('merge', '--from', 'one', image, 'two');
  t.deepEqual(await qemuExtents(image, 'two'), [[MIB, 2 * 65536]]);
  t.deepEqual(await show(t, image, 'two'), [[MIB, 2 * 65536]]);
  t.regex((await bitmap('show', image, 'two')).stdout, /^0x100000 +0x20000$/m);
  await bitmap('enable', image, 'two');
  await bitmap('disable', image, 'one');
  await run('qemu-io', ['-c', 'write 4M 1k', image]);
  t.deepEqual(await show(t, image, 'one'), [[MIB, 2 * 65536]]);
  t.deepEqual(await show(t, image, 'two'), [
    [MIB, 2 * 65536],
    [4 * MIB, 4096],
  ]);
  await bitmap('clear', image, 'one');
  t.deepEqual(await qemuExtents(image, 'one'), []);
  for (const name of ['one', 'two']) {
    await t.notThrowsAsync(run('qemu-img', ['check', image]));
    await bitmap('remove', image, name);
  }
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  t.notRegex((await run('qemu-img', ['info', image])).stdout, /bitmaps/);
});

test('bitmap: what is wrong is told', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await makeImage(t, 'compat=0.10');
  const fails = async (args: string[], code: number, message: RegExp): Promise<void> => {
    const outcome = await attemptBlockfuse(['bitmap', ...args]);
    t.is(outcome.code, code, outcome.stderr);
    t.regex(outcome.stderr, message);
  };
  await fails(['add', image, 'b'], 1, /Cannot store dirty bitmaps in qcow2 v2 files/);
  await fails(['add', image], 2, /say which bitmap to add/);
  await fails(['frob', image, 'b'], 2, /the action is "frob", must be list, add/);
  await fails(['merge', image, 'b'], 2, /say which bitmaps to merge: --from/);
  await fails(['clear', '--since', 's', image, 'b'], 2, /--since is for "add" only/);
  await fails(['add', '--until', 's', image, 'b'], 2, /--until needs --since/);
  await fails(['clear', image, 'b'], 1, /Cannot clear bitmap "b" of image ".*": Dirty bitmap 'b' not found/);
  const second = await makeImage(t);
  await bitmap('add', second, 'b');
  await fails(['add', second, 'b'], 1, /Bitmap already exists: b/);
  await fails(['add', '-g', '1000', second, 'c'], 1, /Granularity must be power of 2 and at least 512/);
  await fails(['add', second, 'n'.repeat(1024)], 1, /Bitmap name too long/);
  const raw = join(await tempDir(t), 'disk.raw');
  await writeFile(raw, Buffer.alloc(MIB));
  await fails(['add', raw, 'b'], 1, /Cannot add a bitmap of ".*disk.raw": format "raw" has no bitmaps/);
});

test('bitmap add --since: what differs from a snapshot, on a file and while it is mounted and written', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo')) return;
  const image = await makeImage(t);
  await run('qemu-io', ['-c', 'write -P 1 0 2M', image]);
  await blockfuse(['snapshot', 'create', image, 'monday']);
  await run('qemu-io', ['-c', 'write -P 2 1M 100k', image]);
  await blockfuse(['snapshot', 'create', image, 'tuesday']);
  await bitmap('add', '--since', 'monday', '--until', 'tuesday', image, 'a day');
  await bitmap('add', '--since', 'monday', image, 'all');
  t.deepEqual(await qemuExtents(image, 'a day'), [[MIB, 2 * 65536]]);
  const mounted = await mountImage(t, image);
  await writeAt(mounted.file, Buffer.alloc(1000, 3), 5 * MIB);
  await bitmap('add', '--since', 'tuesday', '--granularity', '4k', image, 'since');
  await writeAt(mounted.file, Buffer.alloc(1000, 4), 6 * MIB);
  t.deepEqual(await show(t, image, 'since'), [
    [5 * MIB, 65536],
    [6 * MIB, 4096],
  ]);
  t.deepEqual(await show(t, image, 'all'), [
    [MIB, 2 * 65536],
    [5 * MIB, 65536],
    [6 * MIB, 65536],
  ]);
  t.deepEqual(await show(t, image, 'a day'), [[MIB, 2 * 65536]]);
  const restored = await readFile(join(mounted.mountpoint, 'disk.snapshots', 'monday.raw'));
  const now = await readFile(mounted.file);
  const text = await readFile(join(mounted.mountpoint, 'disk.bitmaps', 'all.json'), 'utf8');
  for (const [start, length] of dirtyOf(t, text)) now.copy(restored, start, start, start + length);
  t.true(restored.equals(now), 'a copy of monday with what the bitmap names is the disk as it is now');
  const wrong = await attemptBlockfuse(['bitmap', 'add', '--since', 'sunday', image, 'b']);
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /no snapshot of that id or name, it has "monday", "tuesday"/);
  t.is((await list(image)).length, 3);
  await mounted.unmount();
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  t.deepEqual(await qemuExtents(image, 'since'), [
    [5 * MIB, 65536],
    [6 * MIB, 4096],
  ]);
});

test('bitmaps are changed on a mounted image, and are files beside the disk while they exist', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-nbd', 'nbdinfo')) return;
  const image = await makeImage(t);
  const mounted = await mountImage(t, image);
  t.deepEqual(await readdir(mounted.mountpoint), ['disk.raw']);
  await bitmap('add', image, 'first');
  await bitmap('add', '--granularity', '512', mounted.mountpoint, 'a/b');
  const folder = join(mounted.mountpoint, 'disk.bitmaps');
  const names = await readdir(folder);
  t.is(names.length, 2);
  t.true(names.includes('first.json'));
  const [other = ''] = names.filter((name) => name !== 'first.json');
  t.is(getxattr(join(folder, other), 'user.blockfuse.bitmap'), 'a/b');
  const file = join(folder, 'first.json');
  const before = await stat(file);
  t.is(before.size, (await readFile(file)).length);
  await delay(20);
  await writeAt(mounted.file, Buffer.alloc(1000, 1), 3 * MIB);
  const after = await stat(file);
  t.is(after.ino, before.ino);
  t.true(after.mtimeMs > before.mtimeMs);
  t.is(after.size, (await readFile(file)).length);
  t.deepEqual(dirtyOf(t, await readFile(file, 'utf8')), [[3 * MIB, 65536]]);
  const handle = await open(file);
  await writeAt(mounted.file, Buffer.alloc(1000, 1), 5 * MIB);
  t.deepEqual(dirtyOf(t, await handle.readFile('utf8')), [[3 * MIB, 65536]], 'as it was when it was opened');
  await handle.close();
  t.deepEqual(await show(t, mounted.file, 'a/b'), [
    [3 * MIB, 1024],
    [5 * MIB, 1024],
  ]);
  t.is((await stat(file)).ino, before.ino);
  await bitmap('remove', image, 'first');
  t.is((await readdir(folder)).length, 1);
  await t.throwsAsync(readFile(file), { code: 'ENOENT' });
  await mounted.unmount();
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  t.deepEqual(await qemuExtents(image, 'a/b'), [
    [3 * MIB, 1024],
    [5 * MIB, 1024],
  ]);
  const again = await mountImage(t, image, ['--read-only']);
  const [name = ''] = await readdir(join(again.mountpoint, 'disk.bitmaps'));
  const text = await readFile(join(again.mountpoint, 'disk.bitmaps', name), 'utf8');
  t.deepEqual(dirtyOf(t, text), [
    [3 * MIB, 1024],
    [5 * MIB, 1024],
  ]);
});

test('a server that is killed leaves bitmaps that nobody trusts, and a sound image', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t);
  await run('qemu-img', ['bitmap', '--add', image, 'on']);
  await run('qemu-img', ['bitmap', '--add', '--disable', image, 'off']);
  await run('qemu-img', ['bitmap', '--merge', 'on', image, 'off']);
  const folder = join(await tempDir(t), 'mnt');
  await mkdir(folder);
  const { stdout } = await blockfuse(['mount', '--json', image, folder]);
  t.teardown(() => attempt('umount', ['-l', folder]));
  const { pid, file } = JSON.parse(stdout) as { pid: number; file: string };
  await writeAt(file, Buffer.alloc(100_000, 1), MIB);
  process.kill(pid, 'SIGKILL');
  while (await isAlive(pid)) await delay(2);
  await attempt('umount', ['-l', folder]);
  t.true([0, 3].includes((await attempt('qemu-img', ['check', image])).code));
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as {
    'format-specific': { data: { bitmaps: unknown } };
  };
  t.deepEqual(info['format-specific'].data.bitmaps, [
    { flags: ['in-use', 'auto'], name: 'on', granularity: 65536 },
    { flags: [], name: 'off', granularity: 65536 },
  ]);
  t.deepEqual(
    (await list(image)).map(({ name, inconsistent }) => [name, inconsistent]),
    [
      ['on', true],
      ['off', undefined],
    ],
  );
  const shown = await attemptBlockfuse(['bitmap', 'show', image, 'on']);
  t.regex(shown.stderr, /Cannot show bitmap "on" of ".*": it is inconsistent/);
  t.regex(
    (await attemptBlockfuse(['bitmap', 'clear', image, 'on'])).stderr,
    /inconsistent and cannot be used/,
  );
  const mounted = await mountImage(t, image);
  await t.throwsAsync(readFile(join(mounted.mountpoint, 'disk.bitmaps/on.json')), { code: 'EIO' });
  await writeAt(mounted.file, Buffer.alloc(5, 1), 0);
  await mounted.unmount();
  await bitmap('remove', image, 'on');
  await t.notThrowsAsync(run('qemu-img', ['check', '-r', 'leaks', image]));
  t.deepEqual(
    (await list(image)).map(({ name }) => name),
    ['off'],
  );
});

test('the text of a bitmap with very many extents tells more, never less', async (t) => {
  const size = 64 * MIB;
  const full = new DirtyBitmap({ name: 'b', granularity: 512, size });
  for (let at = 0; at < size; at += 1024) full.set(at, 512);
  for (const max of [1, 3, 1000]) {
    const dirty = dirtyOf(t, await bitmapText(full, max), size);
    t.true(dirty.length <= max, `${dirty.length}`);
    for (let at = 0; at < size; at += 1024)
      if (!dirty.some(([start, length]) => at >= start && at + 512 <= start + length))
        t.fail(`${at} is clean`);
  }
  const few = new DirtyBitmap({ name: 'b', granularity: 512, size });
  few.set(1000, 1);
  t.is(tryTextLength(few, 3), (await bitmapText(few)).length);
  t.is(tryTextLength(few, 2), undefined);
  const many = new DirtyBitmap({ name: 'b', granularity: 512, size });
  for (let at = 0; at < 49_000 * 1024; at += 1024) many.set(at, 512);
  t.is(tryTextLength(many), (await bitmapText(many)).length);
  few.clear();
  t.is(tryTextLength(few, 3), (await bitmapText(few)).length);
});
