/** `convert`: the content of every pair of formats, judged by qemu-img, and each option. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { convertImage } from '../../src/cli/convert-image.ts';
import type { ConvertOptions } from '../../src/cli/convert-image.ts';
import { parseKeyValues } from '../../src/cli/key-values.ts';
import { program } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
/** No multiple of a sector, or of any cluster. */
const SIZE = 3 * MIB + 12_345;
const FORMATS = ['raw', 'qcow2', 'qcow', 'vmdk', 'vdi', 'vpc', 'vhdx', 'qed', 'parallels'] as const;

const DEFAULTS: ConvertOptions = {
  format: undefined,
  'image-opts': false,
  'force-share': false,
  follow: 'rooted',
  'target-format': 'raw',
  createOptions: {},
  compress: false,
  snapshot: undefined,
  backing: undefined,
  'backing-format': undefined,
  'no-create': false,
  'target-image-opts': false,
  'target-is-zero': false,
  bitmaps: false,
  'sparse-size': 4096,
  parallel: 8,
  'rate-limit': undefined,
  salvage: false,
  cache: 'writeback',
  'source-cache': 'writeback',
};

const convert = (image: string, target: string, format: string, more: Partial<ConvertOptions> = {}) =>
  convertImage(image, target, { ...DEFAULTS, 'target-format': format, ...more });

/** Data, text and holes; the last bytes are data. */
function content(random: Random): Buffer {
  const disk = Buffer.alloc(SIZE);
  random.bytes(100_000).copy(disk, 1000);
  disk.fill('all work and no play ', 1_500_000, 1_800_000);
  disk.fill('the end', SIZE - 300);
  return disk;
}

async function source(t: ExecutionContext): Promise<{ cwd: string; raw: string; bytes: Buffer }> {
  const cwd = await tempDir(t);
  const raw = join(cwd, 'source.raw');
  const bytes = content(new Random(seed(21)));
  await writeFile(raw, bytes);
  return { cwd, raw, bytes };
}

async function isSame(t: ExecutionContext, raw: string, image: string, format: string): Promise<void> {
  const outcome = await attempt('qemu-img', ['compare', '-f', 'raw', '-F', format, raw, image]);
  t.is(outcome.code, 0, `${image}: ${outcome.stdout}${outcome.stderr}`);
}

/** What the file takes of its file system. */
const allocated = async (file: string): Promise<number> => (await stat(file)).blocks * 512;

for (const from of FORMATS) {
  test.serial(`from ${from} to every format: the content of an odd size, and its holes`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const { cwd, raw } = await source(t);
    const image = join(cwd, `theirs.${from}`);
    if (from === 'raw') await writeFile(image, await readFile(raw));
    else await run('qemu-img', ['convert', '-f', 'raw', '-O', from, raw, image]);
    for (const to of FORMATS) {
      const target = join(cwd, `ours.${to}`);
      await convert(image, target, to, { format: from });
      await isSame(t, raw, target, to);
      const taken = await allocated(target);
      t.true(taken < 2 * MIB, `${to} takes ${taken}`);
    }
  });
}

const SHAPES: readonly (readonly [string, string])[] = [
  ['vmdk', 'subformat=monolithicFlat'],
  ['vmdk', 'subformat=twoGbMaxExtentSparse'],
  ['vmdk', 'subformat=twoGbMaxExtentFlat'],
  ['vmdk', 'subformat=streamOptimized'],
  ['vdi', 'static=on'],
  ['vpc', 'subformat=fixed'],
  ['vhdx', 'subformat=fixed'],
  ['qcow2', 'cluster_size=512,refcount_bits=1'],
  ['qcow2', 'cluster_size=2M,extended_l2=on'],
  ['qcow2', 'preallocation=full'],
];

test.serial('to every shape of a format', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { cwd, raw } = await source(t);
  for (const [index, [format, options]] of SHAPES.entries()) {
    const target = join(cwd, `shape-${index}.${format}`);
    await convert(raw, target, format, { format: 'raw', createOptions: parseKeyValues(options) });
    await isSame(t, raw, target, format);
  }
});

test.serial('-S: how long a run of zeroes must be to become a hole, and 0 for none at all', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { cwd, raw } = await source(t);
  for (const format of ['raw', 'qcow2']) {
    const target = join(cwd, `sparse.${format}`);
    const taken: number[] = [];
    for (const size of [4096, MIB, 0]) {
      await convert(raw, target, format, { format: 'raw', 'sparse-size': size });
      await isSame(t, raw, target, format);
      taken.push(await allocated(target));
    }
    t.true((taken[0] ?? 0) < MIB);
    t.true((taken[2] ?? 0) >= SIZE, `${format} takes ${taken.join(', ')}`);
  }
});

for (const [name, below] of [
  ['shorter', 2 * MIB + 1000],
  ['longer', 5 * MIB],
] as const) {
  test.serial(`-B: over a backing file that is ${name}, plain and compressed`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const { cwd, raw, bytes } = await source(t);
    const base = Buffer.alloc(below, 'below');
    bytes.copy(base, 1_400_000, 1_400_000, 1_700_000);
    await writeFile(join(cwd, 'base.raw'), base);
    const over = { format: 'raw', backing: 'base.raw' };
    for (const more of [
      {},
      { compress: true },
      { compress: true, createOptions: { compression_type: 'zstd', cluster_size: '4k' } },
      { createOptions: { extended_l2: 'on' } },
    ]) {
      const target = join(cwd, 'over.qcow2');
      await convert(raw, target, 'qcow2', { ...over, ...more });
      await isSame(t, raw, target, 'qcow2');
      t.is((await attempt('qemu-img', ['check', target])).code, 0);
      const { stdout } = await run('qemu-img', ['info', target]);
      t.regex(stdout, /backing file: base\.raw[^]*backing file format: raw/);
    }
  });
}

test.serial('-n: zeroes are written over what is there, and left out with --target-is-zero', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { cwd, raw } = await source(t);
  const target = join(cwd, 'there.qcow2');
  await writeFile(join(cwd, 'full.raw'), Buffer.alloc(4 * MIB, 'full'));
  await run('qemu-img', ['convert', '-O', 'qcow2', join(cwd, 'full.raw'), target]);
  await convert(raw, target, 'qcow2', { format: 'raw', 'no-create': true });
  await isSame(t, raw, target, 'qcow2');
  const named = `driver=qcow2,file.driver=file,file.filename=${target}`;
  const opts = { format: 'raw', 'no-create': true, 'target-image-opts': true };
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', target, `${4 * MIB}`]);
  await convert(raw, named, 'raw', { ...opts, 'target-is-zero': true, parallel: 1 });
  await isSame(t, raw, target, 'qcow2');
  const { stdout } = await run('qemu-img', ['map', '--output=json', target]);
  t.false(stdout.includes('"present": true, "zero": true, "data": false'), stdout);
  await t.throwsAsync(convert(raw, named, 'raw', { ...opts, 'no-create': false }), {
    message: /takes --no-create/,
  });
  await t.throwsAsync(convert(raw, join(cwd, 'x'), 'raw', { 'target-is-zero': true }), {
    message: /--target-is-zero is for --no-create/,
  });
});

test.serial('-l, -m, cache modes and a limit of speed', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { cwd, raw } = await source(t);
  const image = join(cwd, 'snapshots.qcow2');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  await run('qemu-img', ['snapshot', '-c', 'then', image]);
  await run('qemu-io', ['-c', 'write -P 8 0 3M', image]);
  for (const more of [{ parallel: 16 }, { cache: 'none' as const }, { 'rate-limit': 50 * MIB }]) {
    const target = join(cwd, 'then.vdi');
    await convert(image, target, 'vdi', { snapshot: 'then', 'source-cache': 'none', ...more });
    await isSame(t, raw, target, 'vdi');
  }
});

test.serial('--salvage: what can not be read is zero, and the rest is there', async (t) => {
  const { cwd, raw, bytes } = await source(t);
  const rules = join(cwd, 'rules');
  await writeFile(rules, '[inject-error]\nevent = "read_aio"\nerrno = "5"\nsector = "3000"\n');
  const file = { driver: 'blkdebug', config: rules, image: { driver: 'file', filename: raw } };
  const damaged = `json:${JSON.stringify({ driver: 'raw', file })}`;
  const target = join(cwd, 'salvaged.raw');
  await t.throwsAsync(convert(damaged, target, 'raw'), { message: /Cannot read/ });
  await t.throwsAsync(access(target), { code: 'ENOENT' });
  await convert(damaged, target, 'raw', { salvage: true });
  bytes.fill(0, 3000 * 512, 3001 * 512);
  t.true(bytes.equals(await readFile(target)));
});

for (const [name, make, before] of [
  ['a new file', ['-O', 'qcow2'], undefined],
  ['several files', ['-O', 'vmdk', '-o', 'subformat=monolithicFlat'], undefined],
  ['a stream', ['-O', 'vmdk', '-o', 'subformat=streamOptimized'], undefined],
  ['a file that took the place of another one', ['-O', 'qcow2'], 'before'],
] as const) {
  test.serial(`interrupted: ${name} is gone`, async (t) => {
    const { cwd, raw } = await source(t);
    const target = join(cwd, 'target');
    if (before !== undefined) await writeFile(target, before);
    // It would take a minute: what it reads is held back.
    const args = ['convert', '-r', '5000', '-f', 'raw', ...make, raw, target];
    const child = spawn(process.execPath, [program(), ...args], { stdio: 'ignore' });
    t.teardown(() => child.kill('SIGKILL'));
    const content = (): Promise<string> => readFile(target, 'latin1').catch(() => '');
    while (['', before].includes(await content())) await delay(20);
    child.kill('SIGINT');
    const [code] = (await once(child, 'exit')) as [number | null];
    t.is(code, 130);
    t.deepEqual(await readdir(cwd), ['source.raw']);
  });
}

/** What was preallocated is holes of the host's file. */
const preallocated = test.macro(async (t: ExecutionContext, create: string) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const cwd = await tempDir(t);
  const [image, copy] = [join(cwd, 'disk.qcow2'), join(cwd, 'copy.qcow2')];
  const options = create.replace('DATA', join(cwd, 'data.raw'));
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, image, '4G']);
  const writes = ['write -P 7 1G 100k', 'write -P 8 3G 3k', `write -P 9 ${4096 * MIB - 512} 512`];
  await run('qemu-io', ['-f', 'qcow2', ...writes.flatMap((write) => ['-c', write]), image]);
  const { stdout } = await run(process.execPath, [program(), 'map', '--json', image]);
  const entries: { length: number; data: boolean; zero: boolean; depth: number }[] = JSON.parse(stdout);
  const stored = entries
    .filter(({ data, zero }) => data && !zero)
    .reduce((sum, { length }) => sum + length, 0);
  t.true(stored > 0 && stored < 4 * MIB, `${stored} bytes are told to be data`);
  t.true(entries.every(({ depth }) => depth === 0));
  await convert(image, copy, 'qcow2');
  const { code } = await attempt('qemu-img', ['compare', image, copy]);
  t.is(code, 0);
  await run('qemu-img', ['check', '-q', copy]);
});

test('preallocated metadata is copied without reading its holes', preallocated, 'preallocation=metadata');
test(
  'a raw data file is copied without reading its holes',
  preallocated,
  'data_file=DATA,data_file_raw=on,preallocation=metadata',
);
