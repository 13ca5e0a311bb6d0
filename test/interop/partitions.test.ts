/** Partitions as files beside the disk: what is written by one name is read by the other, whatever the kernel caches. */
import { execFileSync } from 'node:child_process';
import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import type { MountedImage } from '../helpers/mounted.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, tool } from '../helpers/tools.ts';

const MIB = 2 ** 20;
const TABLE = 'label: gpt\nstart=1MiB,size=10MiB,name=first\nstart=16MiB,size=20MiB,type=U\n';

interface Parts {
  readonly mounted: MountedImage;
  readonly folder: string;
  readonly image: string;
}

async function partitioned(
  t: ExecutionContext,
  format: 'raw' | 'qcow2',
  args: string[] = [],
): Promise<Parts> {
  const dir = await tempDir(t);
  const raw = join(dir, 'table');
  await writeFile(raw, Buffer.alloc(64 * MIB));
  execFileSync(tool('sfdisk'), ['-q', raw], { input: TABLE, stdio: ['pipe', 'ignore', 'ignore'] });
  const image = join(dir, `disk.${format}`);
  await run('qemu-img', ['convert', '-O', format, raw, image]);
  const mounted = await mountImage(t, image, ['--format', format, ...args]);
  return { mounted, folder: join(mounted.mountpoint, 'disk.partitions'), image };
}

for (const format of ['raw', 'qcow2'] as const) {
  test(`${format}: the partitions of a disk are files beside it`, async (t) => {
    if (!canRun(t, 'sfdisk', 'qemu-img')) return;
    const { folder } = await partitioned(t, format);
    t.deepEqual(await readdir(folder), ['1.raw', '2.raw']);
    t.is((await stat(join(folder, '1.raw'))).size, 10 * MIB);
    t.is((await stat(join(folder, '2.raw'))).size, 20 * MIB);
  });

  test(`${format}: disk and partition show one content under random writes`, async (t) => {
    if (!canRun(t, 'sfdisk', 'qemu-img')) return;
    const { mounted, folder, image } = await partitioned(t, format);
    const disk = await open(mounted.file, 'r+');
    const part = await open(join(folder, '2.raw'), 'r+');
    const random = new Random(7);
    const start = 16 * MIB;
    for (let step = 0; step < 300; step += 1) {
      const bytes = random.bytes(1 + random.below(9000));
      const offset = random.below(64 * 1024);
      const seen = Buffer.alloc(bytes.length);
      if (random.chance(0.5)) {
        await disk.write(bytes, 0, bytes.length, start + offset);
        await part.read(seen, 0, seen.length, offset);
      } else {
        await disk.read(seen, 0, seen.length, start + offset);
        await part.write(bytes, 0, bytes.length, offset);
        await disk.read(seen, 0, seen.length, start + offset);
      }
      if (!seen.equals(bytes)) return t.fail(`step ${step}: ${bytes.length} bytes at ${offset} are stale`);
    }
    await part.close();
    await disk.close();
    await mounted.unmount();
    if (format === 'qcow2') await run('qemu-img', ['check', image]);
    return t.pass();
  });
}

test('the folder follows a table that is changed through the disk', async (t) => {
  if (!canRun(t, 'sfdisk', 'qemu-img')) return;
  const { mounted, folder } = await partitioned(t, 'qcow2');
  const before = await stat(join(folder, '1.raw'));
  execFileSync(tool('sfdisk'), ['-q', '-a', '--no-reread', '--no-tell-kernel', mounted.file], {
    input: 'start=40MiB,size=4MiB\n',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  t.deepEqual(await readdir(folder), ['1.raw', '2.raw', '3.raw']);
  t.is((await stat(join(folder, '3.raw'))).size, 4 * MIB);
  t.is((await stat(join(folder, '1.raw'))).ino, before.ino);
});

test('a read-only disk has read-only partitions', async (t) => {
  if (!canRun(t, 'sfdisk', 'qemu-img')) return;
  const { folder } = await partitioned(t, 'qcow2', ['--read-only']);
  const error = await t.throwsAsync<NodeJS.ErrnoException>(open(join(folder, '1.raw'), 'r+'));
  t.true(['EROFS', 'EACCES'].includes(error?.code ?? ''));
  t.is((await readFile(join(folder, '1.raw'))).length, 10 * MIB);
});

test('a disk without a table has no such folder', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const dir = await tempDir(t);
  const image = join(dir, 'empty.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  const mounted = await mountImage(t, image);
  t.deepEqual(await readdir(mounted.mountpoint), ['empty.raw']);
});
