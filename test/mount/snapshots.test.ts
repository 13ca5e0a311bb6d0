/** Snapshots inside the image of a mounted disk, as files beside it. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { exercise, verify } from '../helpers/exercise.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import type { MountedImage } from '../helpers/mounted.ts';
import { mountedDisk } from '../helpers/mounted-disk.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { getxattr } from './fixtures/calls.ts';

const MIB = 2 ** 20;

interface Disk {
  readonly dir: string;
  readonly image: string;
  readonly content: Buffer;
}

/** An image of 8 MiB with some data and holes. */
async function makeImage(t: ExecutionContext, options = 'cluster_size=64k'): Promise<Disk> {
  const dir = await tempDir(t);
  const image = join(dir, 'disk.qcow2');
  const raw = join(dir, 'content');
  const content = Buffer.alloc(8 * MIB);
  const random = new Random(1);
  random.bytes(MIB).copy(content, MIB);
  random.bytes(2 * MIB).copy(content, 5 * MIB);
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, image]);
  await rm(raw);
  return { dir, image, content };
}

const folderOf = ({ mountpoint }: MountedImage): string => join(mountpoint, 'disk.snapshots');
const snapshot = (...args: string[]) => blockfuse(['snapshot', ...args]);

/** Of what a file holds, read past the page cache with `direct`. */
async function hash(file: string, direct = false): Promise<string> {
  const digest = createHash('sha256');
  const handle = await open(file, constants.O_RDONLY | (direct ? constants.O_DIRECT : 0));
  for await (const chunk of handle.createReadStream()) digest.update(chunk as Buffer);
  return digest.digest('hex');
}

test('snapshots are files beside the disk while they exist', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { image, content } = await makeImage(t);
  const mounted = await mountImage(t, image);
  t.deepEqual(await readdir(mounted.mountpoint), ['disk.raw']);
  await snapshot('create', image, 'first');
  await snapshot('create', image, 'a/b');
  await snapshot('create', mounted.file, '..');
  await snapshot('create', mounted.mountpoint, `${'ü'.repeat(120)}`);
  const folder = folderOf(mounted);
  const names = ['first.raw', 'a_b~2.raw', '__~3.raw', `${'ü'.repeat(99)}~4.raw`];
  t.deepEqual((await readdir(folder)).toSorted(), names.toSorted());
  t.is(getxattr(join(folder, 'a_b~2.raw'), 'user.blockfuse.snapshot'), 'a/b');
  const disk = await open(mounted.file, 'r+');
  await disk.write(Buffer.alloc(MIB, 'new'), 0, MIB, MIB);
  await disk.close();
  t.true((await readFile(join(folder, 'first.raw'))).equals(content));
  const found = await stat(join(folder, 'first.raw'));
  const listed = JSON.parse((await snapshot('list', '--json', image)).stdout) as Record<string, number>[];
  t.is(Math.floor(found.mtimeMs / 1000), listed[0]?.['date-sec'] ?? 0);
  t.is(found.blocks * 512, 3 * MIB);
  const error = await t.throwsAsync<NodeJS.ErrnoException>(open(join(folder, 'first.raw'), 'r+'));
  t.true(['EROFS', 'EACCES'].includes(error?.code ?? ''));
  const reader = await open(join(folder, 'first.raw'), 'r');
  const refused = await attemptBlockfuse(['snapshot', 'delete', image, 'first']);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /Cannot delete snapshot "first": its file "disk.snapshots\/first.raw" is open/);
  await reader.close();
  for (const name of ['first', 'a/b', '..', '4']) await snapshot('delete', image, name);
  t.deepEqual(await readdir(mounted.mountpoint), ['disk.raw']);
  await mounted.unmount();
  await run('qemu-img', ['check', image]);
});

test('apply: the disk is what it was, for programs that have it open, too', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { image, content } = await makeImage(t);
  const mounted = await mountImage(t, image);
  await snapshot('create', image, 'then');
  const disk = await open(mounted.file, 'r+');
  await disk.write(Buffer.alloc(MIB, 'new'), 0, MIB, MIB);
  const bytes = Buffer.alloc(MIB);
  await disk.read(bytes, 0, MIB, MIB);
  await snapshot('apply', image, 'then');
  await disk.read(bytes, 0, MIB, MIB);
  t.true(bytes.equals(content.subarray(MIB, 2 * MIB)));
  await disk.write(Buffer.alloc(100, 'more'), 0, 100, 0);
  await disk.close();
  t.true((await readFile(join(folderOf(mounted), 'then.raw'))).equals(content));
  await mounted.unmount();
  await run('qemu-img', ['check', image]);
});

test('a snapshot stays what it is while the disk is overwritten and other snapshots come and go', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { image, content } = await makeImage(t, 'cluster_size=4k');
  const mounted = await mountImage(t, image);
  await snapshot('create', image, 'kept');
  const kept = join(folderOf(mounted), 'kept.raw');
  const expected = createHash('sha256').update(content).digest('hex');
  const start = seed(17);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const random = new Random(start);
  const disk = await mountedDisk(t, mounted.file);
  const model = new ModelDisk(content.length);
  content.copy(model.bytes);
  const state = { over: false };
  const writing = async (): Promise<void> => {
    while (!state.over) {
      const work = { random, operations: 200, concurrency: 8, maxLength: 200_000, borders: [4096] };
      await exercise(disk, model, work);
    }
  };
  const hashing = async (): Promise<number> => {
    let count = 0;
    for (; !state.over; count += 1) {
      t.is(await hash(kept, count % 4 !== 0), expected);
    }
    return count;
  };
  const changing = async (): Promise<void> => {
    for (let round = 0; round < rounds(12, 200); round += 1) {
      await snapshot('create', image, `s${round}`);
      if (round > 1) await snapshot('delete', image, `s${round - 2}`);
    }
    state.over = true;
  };
  const [, hashes] = await Promise.all([writing(), hashing(), changing()]);
  t.log(`${hashes} hashes`);
  await verify(disk, model);
  await disk.close();
  await mounted.unmount();
  await run('qemu-img', ['check', image]);
  const out = join(image, '..', 'kept.out');
  await run('qemu-img', ['convert', '-l', 'snapshot.name=kept', '-O', 'raw', image, out]);
  t.is(await hash(out), expected);
});

test('tar and cp keep the holes of a snapshot', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { dir, image, content } = await makeImage(t);
  await snapshot('create', image, 'then');
  const mounted = await mountImage(t, image);
  const file = join(folderOf(mounted), 'then.raw');
  for (const how of ['auto', 'always']) {
    const copy = join(dir, `copy-${how}`);
    await run('cp', [`--sparse=${how}`, file, copy]);
    t.true((await readFile(copy)).equals(content));
    t.true((await stat(copy)).blocks * 512 < 4 * MIB);
  }
  const archive = join(dir, 'archive.tar');
  await run('tar', ['-S', '-cf', archive, '-C', folderOf(mounted), 'then.raw']);
  t.true((await stat(archive)).size < 4 * MIB);
  await mkdir(join(dir, 'unpacked'));
  await run('tar', ['-xf', archive, '-C', join(dir, 'unpacked')]);
  const unpacked = join(dir, 'unpacked', 'then.raw');
  t.true((await readFile(unpacked)).equals(content));
  t.true((await stat(unpacked)).blocks * 512 < 4 * MIB);
});

/** Mounts, backs up what the folder of snapshots holds, and unmounts. */
async function backUp(
  t: ExecutionContext,
  image: string,
  command: (folder: string) => Promise<string>,
): Promise<string> {
  const mountpoint = join(image, '..', 'mnt');
  await mkdir(mountpoint, { recursive: true });
  const mounted = await mountImage(t, image, [mountpoint]);
  const output = await command(folderOf(mounted));
  await mounted.unmount();
  return output;
}

test('restic reads nothing of a snapshot again, in another mount', async (t) => {
  if (!canRun(t, 'qemu-img', 'restic')) return;
  const { dir, image } = await makeImage(t);
  await snapshot('create', image, 'then');
  const env = { ...process.env, RESTIC_PASSWORD: 'x', RESTIC_REPOSITORY: join(dir, 'repo') };
  const cache = ['--cache-dir', join(dir, 'cache')];
  await run('restic', ['init', ...cache], { env });
  const restic = (folder: string) =>
    run('restic', ['backup', '--json', ...cache, folder], { env }).then(({ stdout }) => stdout);
  const summary = (text: string) =>
    JSON.parse(text.trim().split('\n').at(-1) ?? '') as Record<string, number>;
  t.is(summary(await backUp(t, image, restic))['files_new'], 1);
  const second = summary(await backUp(t, image, restic));
  t.is(second['files_new'], 0);
  t.is(second['files_changed'], 0);
  t.is(second['files_unmodified'], 1);
  t.is(second['data_blobs'], 0);
});

test('borg reads nothing of a snapshot again, in another mount', async (t) => {
  if (!canRun(t, 'qemu-img', 'borg')) return;
  const { dir, image } = await makeImage(t);
  await snapshot('create', image, 'then');
  const repo = join(dir, 'repo');
  const env = { ...process.env, BORG_BASE_DIR: join(dir, 'base'), BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes' };
  await run('borg', ['init', '-e', 'none', repo], { env });
  // Borg does not remember the newest file of a run: it may have been changed since.
  const newest = join(dir, 'newest');
  const borg = (archive: string) => async (folder: string) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await writeFile(newest, archive);
    const made = await run('borg', ['create', '--list', `${repo}::${archive}`, folder, newest], { env });
    return made.stderr + made.stdout;
  };
  t.regex(await backUp(t, image, borg('one')), /^A .*then\.raw$/m);
  t.regex(await backUp(t, image, borg('two')), /^U .*then\.raw$/m);
});
