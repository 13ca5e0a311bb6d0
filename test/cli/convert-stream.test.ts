/** streamOptimized VMDKs as the target of convert: written front to back, judged by qemu-img, libvmdk and 7-Zip. */
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const STREAM = ['-O', 'vmdk', '-o', 'subformat=streamOptimized'];

/** More than two grain tables, an end inside a grain, grains that pack well, badly and not at all, and holes. */
async function makeSource(folder: string, size = 70 * MIB + 1536): Promise<Buffer> {
  const random = new Random(seed(61));
  const disk = Buffer.alloc(size);
  random.bytes(3 * MIB).copy(disk, 100_000);
  random.softBytes(3 * MIB).copy(disk, 30 * MIB);
  disk.fill('all work and no play ', 40 * MIB + 512, 44 * MIB);
  random.bytes(777).copy(disk, size - 777);
  await writeFile(join(folder, 'source.raw'), disk);
  return disk;
}

const same = async (t: ExecutionContext, cwd: string, image: string): Promise<void> => {
  await run('qemu-img', ['check', '-f', 'vmdk', image], { cwd });
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'vmdk', 'source.raw', image], { cwd });
  t.regex((await run('vmdkinfo', [image], { cwd })).stdout, /Disk type:\s+Stream optimized/);
};

test('convert makes a streamOptimized VMDK that qemu-img, libvmdk and 7-Zip read', async (t) => {
  if (!canRun(t, 'qemu-img', 'vmdkinfo', '7zz')) return;
  const cwd = await tempDir(t);
  const disk = await makeSource(cwd);
  await blockfuse(['convert', ...STREAM, '-f', 'raw', 'source.raw', 'made.vmdk'], { cwd });
  await same(t, cwd, 'made.vmdk');
  await run('7zz', ['x', '-bso0', '-oout', 'made.vmdk'], { cwd });
  t.true(disk.equals(await readFile(join(cwd, 'out', 'made.img'))));
  await blockfuse(['compare', 'made.vmdk', 'source.raw'], { cwd });
  const info = JSON.parse((await blockfuse(['info', '--json', 'made.vmdk'], { cwd })).stdout);
  t.is(info['format-specific'].data['create-type'], 'streamOptimized');
  t.is(info['virtual-size'], disk.length);
  await blockfuse(['convert', '-O', 'qcow2', 'made.vmdk', 'back.qcow2'], { cwd });
  await blockfuse(['convert', '-c', ...STREAM, 'back.qcow2', 'made.vmdk'], { cwd });
  await same(t, cwd, 'made.vmdk');
});

test('a streamOptimized VMDK is not written a second time, and has no parent', async (t) => {
  const cwd = await tempDir(t);
  await makeSource(cwd, 64 * MIB);
  await blockfuse(['convert', ...STREAM, '-f', 'raw', 'source.raw', 'made.vmdk'], { cwd });
  const before = await readFile(join(cwd, 'made.vmdk'));
  const refused = async (wanted: RegExp, ...args: readonly string[]): Promise<void> => {
    const outcome = await attemptBlockfuse(args, { cwd });
    t.is(outcome.code, 1);
    t.regex(outcome.stderr, wanted);
  };
  await refused(/streamOptimized, its grains/, 'convert', '-n', '-O', 'vmdk', 'source.raw', 'made.vmdk');
  await refused(/streamOptimized, its grains/, 'resize', 'made.vmdk', '+1M');
  t.true(before.equals(await readFile(join(cwd, 'made.vmdk'))));
  await refused(
    /a streamOptimized image has no parent/,
    ...['convert', ...STREAM, '-B', 'made.vmdk', '-F', 'vmdk', '-f', 'raw', 'source.raw', 'child.vmdk'],
  );
  const created = await attemptBlockfuse(
    ['create', '-f', 'vmdk', '-o', 'subformat=streamOptimized', 'empty.vmdk', '64M'],
    { cwd },
  );
  t.is(created.code, 0);
  t.regex(created.stderr, /"empty.vmdk" is complete and empty, and can only be read.*blockfuse convert/);
  await truncate(join(cwd, 'source.raw'), 0);
  await truncate(join(cwd, 'source.raw'), 64 * MIB);
  if (canRun(t, 'qemu-img', 'vmdkinfo')) await same(t, cwd, 'empty.vmdk');
});

test('a convert that fails half-way leaves nothing that opens as an image', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  await makeSource(cwd);
  const small = join(cwd, 'small');
  await mkdir(small);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'blockfuse-test', small]);
  t.teardown(() => run('umount', [small]));
  const target = join(small, 'made.vmdk');
  const outcome = await attemptBlockfuse(['convert', ...STREAM, '-f', 'raw', 'source.raw', target], { cwd });
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /no space left/);
  for (const format of [[], ['-f', 'vmdk']])
    t.is((await attemptBlockfuse(['info', ...format, target])).code, 1);
  t.not((await attempt('qemu-img', ['info', '-f', 'vmdk', target])).code, 0);
});
