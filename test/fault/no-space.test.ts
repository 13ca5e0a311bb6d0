/** The file system under the image is full: writes fail with ENOSPC, nothing is damaged, and there is a way on. */
import { mkdir, open, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { loopDevice, mountDevice } from '../helpers/loop-device.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, tool } from '../helpers/tools.ts';

const MiB = 1024 * 1024;
const SIZE = 96 * MiB;

/** A small file system of its own. */
async function smallHome(t: ExecutionContext, kind: 'tmpfs' | 'ext4'): Promise<string> {
  const folder = await tempDir(t);
  const home = join(folder, 'home');
  await mkdir(home);
  if (kind === 'tmpfs') {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'blockfuse-test', home]);
    t.teardown(() => run('umount', [home]).then(() => undefined));
    return home;
  }
  const file = join(folder, 'home.img');
  await run('qemu-img', ['create', '-q', '-f', 'raw', file, '48M']);
  await run(tool('mkfs.ext4'), ['-q', '-m', '0', file]);
  const loop = await loopDevice(t, file);
  await mountDevice(t, loop.path, home);
  return home;
}

interface Shape {
  readonly home: 'tmpfs' | 'ext4';
  readonly create?: string;
  readonly format?: string;
}

const survives = test.macro(async (t: ExecutionContext, shape: Shape) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'mkfs.ext4', 'losetup')) return;
  const { format = 'qcow2', create } = shape;
  const home = await smallHome(t, shape.home);
  const image = join(home, `disk.${format}`);
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    format,
    ...(create === undefined ? [] : ['-o', create]),
    image,
    String(SIZE),
  ]);
  const ballast = join(home, 'ballast');
  await writeFile(ballast, Buffer.alloc(12 * MiB, 1));
  const folder = await tempDir(t);
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  const mounted = await mountImage(t, image, [mountpoint]);
  const handle = await open(mounted.file, 'r+');
  t.teardown(() => handle.close().catch(() => undefined));
  const filling = new Filling(new Random(seed(77)));

  const refusal = await filling.writeUntilRefused((bytes, offset) =>
    handle.write(bytes, 0, bytes.length, offset),
  );
  t.is(refusal, 'ENOSPC');
  t.true(filling.answered > (10 * MiB) / Filling.LENGTH);
  t.is(await filling.firstWrong(handle), undefined);
  await t.notThrowsAsync(run('sync', ['-f', home]));

  await rm(ballast);
  const { bavail, bsize } = await statfs(home);
  t.true(bavail * bsize > 8 * MiB);
  for (let count = 0; count < 20; count += 1)
    await filling.writeOnce((bytes, offset) => handle.write(bytes, 0, bytes.length, offset));
  await handle.datasync();
  t.is(await filling.firstWrong(handle), undefined);
  await handle.close();
  await mounted.unmount();

  if (format === 'qcow2') await run('qemu-img', ['check', '-f', format, image]);
  const again = await mountImage(t, image, ['--read-only']);
  const reader = await open(again.file, 'r');
  t.is(await filling.firstWrong(reader), undefined);
  await reader.close();
});

/** Writes to random places that are never used twice; a refused one may have left anything between old and new. */
class Filling {
  static readonly LENGTH = 64 * 1024;
  readonly model = new ModelDisk(SIZE);
  answered = 0;
  private readonly random: Random;
  private readonly places: number[];
  private readonly refused = new Set<number>();

  constructor(random: Random) {
    this.random = random;
    this.places = Array.from({ length: SIZE / Filling.LENGTH }, (_, index) => index);
  }

  async writeOnce(
    write: (bytes: Buffer, offset: number) => Promise<{ bytesWritten: number }>,
  ): Promise<void> {
    const [place = 0] = this.places.splice(this.random.below(this.places.length), 1);
    const offset = place * Filling.LENGTH;
    const bytes = this.random.bytes(Filling.LENGTH);
    try {
      for (let at = 0; at < bytes.length;) {
        const { bytesWritten } = await write(bytes.subarray(at), offset + at);
        at += bytesWritten;
      }
    } catch (error) {
      this.refused.add(place);
      throw error;
    }
    this.model.write(bytes, offset);
    this.answered += 1;
  }

  /** The code of the first error. */
  async writeUntilRefused(
    write: (bytes: Buffer, offset: number) => Promise<{ bytesWritten: number }>,
  ): Promise<unknown> {
    try {
      while (this.places.length > 0) await this.writeOnce(write);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
    return 'never';
  }

  /** Words on the first difference outside of refused places. */
  async firstWrong(handle: Awaited<ReturnType<typeof open>>): Promise<string | undefined> {
    const bytes = Buffer.alloc(Filling.LENGTH);
    for (let offset = 0; offset < SIZE; offset += Filling.LENGTH) {
      if (this.refused.has(offset / Filling.LENGTH)) continue;
      await handle.read(bytes, 0, bytes.length, offset);
      const found = difference(bytes, this.model.read(offset, bytes.length), offset);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

test.serial('qcow2 on a full ext4', survives, { home: 'ext4' });
test.serial('qcow2 on a full tmpfs', survives, { home: 'tmpfs' });
test.serial('qcow2 with 512 byte clusters on a full tmpfs', survives, {
  home: 'tmpfs',
  create: 'cluster_size=512',
});
test.serial('qcow2 with 2 MiB clusters on a full ext4', survives, {
  home: 'ext4',
  create: 'cluster_size=2M',
});
test.serial('raw on a full ext4', survives, { home: 'ext4', format: 'raw' });
