/** A loop device over the mounted file: real file systems as load, their checkers and qemu-img as judges. */
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { loopDevice, mountDevice } from '../helpers/loop-device.ts';
import { mountImage } from '../helpers/mounted.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

interface Load {
  readonly format: string;
  readonly fileSystem: 'ext4' | 'xfs';
  readonly directIo: 'on' | 'off';
}

const FILE_SYSTEMS = {
  ext4: { make: ['mkfs.ext4', '-q', '-E', 'nodiscard'], check: ['fsck.ext4', '-fn'], size: '256M' },
  xfs: { make: ['mkfs.xfs', '-q', '-K'], check: ['xfs_repair', '-n'], size: '512M' },
} as const;

/** Files of many sizes, and what each must hold. */
async function writeTree(folder: string, random: Random): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (let index = 0; index < 60; index += 1) {
    const below = join(folder, `d${index % 7}`);
    await mkdir(below, { recursive: true });
    const bytes = random.bytes(random.pick([0, 1, 5000, 70_000, 1_000_000]));
    const path = join(below, `f${index}`);
    await writeFile(path, bytes);
    digests.set(path.slice(folder.length), createHash('sha256').update(bytes).digest('hex'));
  }
  return digests;
}

async function readTree(folder: string): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.parentPath.includes('lost+found')) continue;
    const path = join(entry.parentPath, entry.name);
    digests.set(
      path.slice(folder.length),
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    );
  }
  return digests;
}

const allocated = async (path: string): Promise<number> => (await stat(path)).blocks * 512;

const carries = test.macro(async (t: ExecutionContext, load: Load) => {
  const { make, check, size } = FILE_SYSTEMS[load.fileSystem];
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'losetup', 'fstrim', make[0], check[0])) return;
  const folder = await tempDir(t);
  const image = join(folder, `disk.${load.format}`);
  await run('qemu-img', ['create', '-q', '-f', load.format, image, size]);
  const mounted = await mountImage(t, image);
  const loop = await loopDevice(t, mounted.file, [`--direct-io=${load.directIo}`]);
  await run(make[0], [...make.slice(1), loop.path]);
  const tree = join(folder, 'tree');
  await mkdir(tree);

  const first = await mountDevice(t, loop.path, tree);
  const wanted = await writeTree(tree, new Random(11));
  await cp(join(tree, 'd1'), join(tree, 'gone'), { recursive: true });
  await writeFile(join(tree, 'gone', 'large'), Buffer.alloc(48 * 1024 * 1024, 0x5a));
  await run('sync', ['-f', tree]);
  const before = await allocated(image);
  await rm(join(tree, 'gone'), { recursive: true });
  await trimBelow(t, { tree, image }, before - 40 * 1024 * 1024);
  await first.unmount();

  await run(check[0], [...check.slice(1), loop.path]);
  const second = await mountDevice(t, loop.path, tree, ['-o', 'ro']);
  t.deepEqual(Object.fromEntries(await readTree(tree)), Object.fromEntries(wanted));
  await second.unmount();
  await loop.detach();
  await mounted.unmount();
  if (load.format !== 'raw') await run('qemu-img', ['check', image]);
  await judgeAgain(t, image, load);
});

/** File systems free blocks, and images give space back, behind the requests: it may take a moment, and a second trim. */
async function trimBelow(
  t: ExecutionContext,
  at: { tree: string; image: string },
  wanted: number,
): Promise<void> {
  let found = Infinity;
  const isTrimmed = async (): Promise<boolean> => {
    await run('sync', ['-f', at.tree]);
    await run('fstrim', [at.tree]);
    await delay(100);
    found = await allocated(at.image);
    return found <= wanted;
  };
  await until(isTrimmed, `at most ${wanted} allocated after fstrim`);
  t.log(`allocated ${found} after fstrim`);
}

/** The same file system, seen through the image as qemu-img reads it. */
async function judgeAgain(t: ExecutionContext, image: string, load: Load): Promise<void> {
  const flat = `${image}.flat`;
  await run('qemu-img', ['convert', '-q', '-f', load.format, '-O', 'raw', image, flat]);
  const { check } = FILE_SYSTEMS[load.fileSystem];
  const target = load.fileSystem === 'xfs' ? ['-f', flat] : [flat];
  await t.notThrowsAsync(run(check[0], [...check.slice(1), ...target]));
}

test.serial('qcow2 carries ext4, loop with direct I/O', carries, {
  format: 'qcow2',
  fileSystem: 'ext4',
  directIo: 'on',
});
test.serial('qcow2 carries ext4, loop without direct I/O', carries, {
  format: 'qcow2',
  fileSystem: 'ext4',
  directIo: 'off',
});
test.serial('qcow2 carries xfs, loop with direct I/O', carries, {
  format: 'qcow2',
  fileSystem: 'xfs',
  directIo: 'on',
});
test.serial('qcow2 carries xfs, loop without direct I/O', carries, {
  format: 'qcow2',
  fileSystem: 'xfs',
  directIo: 'off',
});
test.serial('raw carries ext4, loop with direct I/O', carries, {
  format: 'raw',
  fileSystem: 'ext4',
  directIo: 'on',
});
