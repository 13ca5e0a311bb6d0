/** Commands on images that nobody uses: convert, commit, rebase, measure, check. qemu-img says whether they are right. */
import { randomBytes } from 'node:crypto';
import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;

/** Data, text and holes; the last bytes are data. */
async function makeSource(folder: string): Promise<string> {
  const disk = Buffer.alloc(8 * MIB);
  randomBytes(200_000).copy(disk);
  disk.fill('all work and no play ', 2 * MIB, 4 * MIB);
  randomBytes(33_333).copy(disk, 7 * MIB - 4096);
  disk.write('the end', disk.length - 7);
  const file = join(folder, 'source.raw');
  await writeFile(file, disk);
  return file;
}

/** What an image reads as: the raw file `want` has the same. */
type SameAs = (want: string, image: string, format: string) => Promise<void>;

function judge(t: ExecutionContext, cwd: string): SameAs {
  return async (want, image, format) => {
    const outcome = await attempt('qemu-img', ['compare', '-f', 'raw', '-F', format, want, image], { cwd });
    t.is(outcome.code, 0, `${image}: ${outcome.stdout}${outcome.stderr}`);
  };
}

async function sound(t: ExecutionContext, folder: string, image: string): Promise<void> {
  const outcome = await attempt('qemu-img', ['check', image], { cwd: folder });
  t.true(outcome.code === 0 || outcome.code === 63, `${image}: ${outcome.stdout}${outcome.stderr}`);
}

const FORMATS = ['raw', 'qcow2', 'qcow', 'vmdk', 'vdi', 'vpc', 'vhdx', 'qed', 'parallels'] as const;

for (const format of FORMATS) {
  test(`convert to ${format} and from it gives qemu-img's content`, async (t) => {
    const cwd = await tempDir(t);
    if (!canRun(t, 'qemu-img')) return;
    await makeSource(cwd);
    await blockfuse(['convert', '-f', 'raw', '-O', format, 'source.raw', 'made'], { cwd });
    await judge(t, cwd)('source.raw', 'made', format);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', format, 'source.raw', 'theirs'], { cwd });
    await blockfuse(['convert', '-f', format, '-O', 'qcow2', 'theirs', 'back.qcow2'], { cwd });
    await judge(t, cwd)('source.raw', 'back.qcow2', 'qcow2');
    await sound(t, cwd, 'back.qcow2');
  });
}

for (const options of [
  'compression_type=zlib',
  'compression_type=zstd',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=2M,refcount_bits=2',
  'compat=0.10',
  'extended_l2=on',
]) {
  test(`compressed clusters are written, and written over: ${options}`, async (t) => {
    const cwd = await tempDir(t);
    if (!canRun(t, 'qemu-img')) return;
    const source = await makeSource(cwd);
    const args = ['convert', '-c', '-f', 'raw', '-O', 'qcow2'];
    await blockfuse([...args, '--target-options', options, 'source.raw', 'made.qcow2'], { cwd });
    await judge(t, cwd)('source.raw', 'made.qcow2', 'qcow2');
    await sound(t, cwd, 'made.qcow2');
    const other = await readFile(source);
    for (let at = 0; at < other.length; at += 300_000) other.fill(at % 251, at, at + 100_000);
    await writeFile(join(cwd, 'other.raw'), other);
    await blockfuse([...args, '-n', 'other.raw', 'made.qcow2'], { cwd });
    await judge(t, cwd)('other.raw', 'made.qcow2', 'qcow2');
    await sound(t, cwd, 'made.qcow2');
  });
}

test('a format without compression, a target that is too small and the source itself are refused', async (t) => {
  const cwd = await tempDir(t);
  const source = await makeSource(cwd);
  const before = await readFile(source);
  const refused = async (wanted: RegExp, ...args: readonly string[]) => {
    const outcome = await attemptBlockfuse(['convert', '-f', 'raw', ...args], { cwd });
    t.is(outcome.code, 1);
    t.regex(outcome.stderr, wanted);
  };
  await refused(/no compressed writes/, '-c', '-O', 'vdi', 'source.raw', 'x.vdi');
  await blockfuse(['create', '-f', 'qcow2', 'small.qcow2', '4M'], { cwd });
  await refused(/must have the 8388608/, '-n', '-O', 'qcow2', 'source.raw', 'small.qcow2');
  await refused(/Cannot lock/, '-O', 'raw', 'source.raw', 'source.raw');
  t.deepEqual(await readFile(source), before);
});

/** base <- mid <- top, each larger than the one below, and what top reads as. */
async function makeChain(cwd: string): Promise<void> {
  const io = (image: string, ...commands: readonly string[]) =>
    run('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], { cwd });
  const create = (...args: readonly string[]) =>
    run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args], { cwd });
  await create('base.qcow2', '8M');
  await io('base.qcow2', 'write -P 1 0 6M');
  await create('-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2', '10M');
  await io('mid.qcow2', 'write -P 2 1M 1M', 'write -z 3M 128k', 'write -P 4 9M 100k');
  await create('-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2', '12M');
  await io('top.qcow2', 'write -P 5 100k 3k', 'write -P 6 11M 200k', 'discard 2M 64k');
  await run('qemu-img', ['convert', '-O', 'raw', 'top.qcow2', 'want.raw'], { cwd });
}

test('commit writes an overlay into its backing file and empties it', async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  await makeChain(cwd);
  await blockfuse(['commit', 'top.qcow2'], { cwd });
  for (const image of ['top.qcow2', 'mid.qcow2']) {
    await judge(t, cwd)('want.raw', image, 'qcow2');
    await sound(t, cwd, image);
  }
  const { stdout } = await run('qemu-img', ['map', '--output=json', 'top.qcow2'], { cwd });
  t.notRegex(stdout, /"depth": 0, "present": true/);
});

for (const format of ['vmdk', 'vhdx'])
  test(`commit of a kept ${format} overlay tells that it opens no more`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const cwd = await tempDir(t);
    await blockfuse(['create', '-f', format, 'base', '4M'], { cwd });
    await blockfuse(['create', '-f', format, '-b', 'base', '-F', format, 'top'], { cwd });
    const { stdout, stderr } = await blockfuse(['commit', '--keep', 'top'], { cwd });
    t.is(stdout, 'Image committed.\n');
    t.is(stderr, '', 'nothing was written');
    await writeFile(join(cwd, 'data'), Buffer.alloc(4 * MIB, 7));
    await blockfuse(['convert', '-n', '-O', format, 'data', 'top'], { cwd });
    const kept = await blockfuse(['commit', '--keep', 'top'], { cwd });
    t.regex(
      kept.stderr,
      /^blockfuse: warning: ".*base" holds everything now, and the overlay opens no more: /,
    );
    t.is((await blockfuse(['compare', 'base', 'data'], { cwd })).code, 0);
  });

test('commit of a kept overlay whose key can be read once only tells nothing', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  await writeFile(join(cwd, 'key'), 'secret');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', 'base', '1M'], { cwd });
  const encrypted = ['-o', 'encrypt.format=luks,encrypt.iter-time=10', '--key-file', 'key'];
  await blockfuse(['create', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', ...encrypted, 'top'], { cwd });
  const env = { ...process.env, KEY: 'secret' };
  const { stderr } = await blockfuse(['commit', '--keep', '--key-env', 'KEY', 'top'], { cwd, env });
  t.is(stderr, '');
});

test('commit to a base further down, and with --keep, leaves the overlay alone', async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  await makeChain(cwd);
  const before = await readFile(join(cwd, 'top.qcow2'));
  await copyFile(join(cwd, 'mid.qcow2'), join(cwd, 'mid-before.qcow2'));
  await blockfuse(['commit', '--keep', 'top.qcow2'], { cwd });
  await judge(t, cwd)('want.raw', 'mid.qcow2', 'qcow2');
  t.deepEqual(await readFile(join(cwd, 'top.qcow2')), before);
  await copyFile(join(cwd, 'mid-before.qcow2'), join(cwd, 'mid.qcow2'));
  await blockfuse(['commit', '--base', 'base.qcow2', 'top.qcow2'], { cwd });
  await judge(t, cwd)('want.raw', 'base.qcow2', 'qcow2');
  const outcome = await attemptBlockfuse(['commit', '--base', 'other.qcow2', 'top.qcow2'], { cwd });
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /not in its backing chain/);
});

test('rebase keeps what the disk reads as, unsafe changes the name alone', async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  await makeChain(cwd);
  const backing = async (): Promise<unknown> => {
    const { stdout } = await run('qemu-img', ['info', '--output=json', 'top.qcow2'], { cwd });
    const info: Record<string, unknown> = JSON.parse(stdout);
    return info['backing-filename'];
  };
  for (const [name, wanted] of [
    ['base.qcow2', 'base.qcow2'],
    ['', undefined],
  ] as const) {
    await blockfuse(['rebase', '-b', name, 'top.qcow2'], { cwd });
    t.is(await backing(), wanted);
    await judge(t, cwd)('want.raw', 'top.qcow2', 'qcow2');
    await sound(t, cwd, 'top.qcow2');
  }
  await blockfuse(['rebase', '-u', '-b', 'nowhere.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd });
  t.is(await backing(), 'nowhere.qcow2');
});

test("measure says qemu-img's figures", async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img')) return;
  await makeSource(cwd);
  for (const options of [
    'cluster_size=64k',
    'cluster_size=512,refcount_bits=1',
    'extended_l2=on,refcount_bits=64',
    'backing_file=source.raw,backing_fmt=raw',
    'preallocation=full,cluster_size=2M',
  ]) {
    for (const what of [
      ['--size', '1G'],
      ['-f', 'raw', 'source.raw'],
    ]) {
      const theirs = await run(
        'qemu-img',
        ['measure', '-O', 'qcow2', '-o', options, '--output=json', ...what],
        { cwd },
      );
      const args = ['measure', '-O', 'qcow2', '--target-options', options, '--json', ...what];
      const ours = await blockfuse(args, { cwd });
      const { required, 'fully-allocated': full }: Record<string, unknown> = JSON.parse(theirs.stdout);
      t.deepEqual(
        JSON.parse(ours.stdout),
        { required, 'fully-allocated': full },
        `${options} ${what.join(' ')}`,
      );
    }
  }
});

test("measure counts the bitmaps of a source, and a LUKS header, as qemu-img's", async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img')) return;
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', 'bitmaps.qcow2', '20M'], { cwd });
  const figures = async (...args: readonly string[]): Promise<unknown> => {
    const theirs = await run('qemu-img', ['measure', '--output=json', '-O', 'qcow2', ...args], { cwd });
    const ours = await blockfuse(['measure', '--json', '-O', 'qcow2', ...args], { cwd });
    t.deepEqual(JSON.parse(ours.stdout), JSON.parse(theirs.stdout), args.join(' '));
    return JSON.parse(ours.stdout);
  };
  t.like(await figures('bitmaps.qcow2'), { bitmaps: 0 });
  await run('qemu-img', ['bitmap', '--add', 'bitmaps.qcow2', 'one'], { cwd });
  t.like(await figures('-o', 'cluster_size=4k', 'bitmaps.qcow2'), { bitmaps: 12_288 });
  // qemu-img derives a key for it, which takes it seconds: what is made here has to have that length.
  const args = ['-o', 'encrypt.format=luks,encrypt.iter-time=1,preallocation=full'];
  await writeFile(join(cwd, 'key'), 'secret');
  await blockfuse(['create', ...args, '--key-file', 'key', 'luks.qcow2', '8M'], { cwd });
  const { stdout } = await blockfuse(['measure', '--json', '-O', 'qcow2', ...args, '--size', '8M'], { cwd });
  const { required }: Record<string, unknown> = JSON.parse(stdout);
  t.is((await stat(join(cwd, 'luks.qcow2'))).size, Number(required));
});

test('check repairs an image that has its corrupt bit set', async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img')) return;
  await blockfuse(['create', 'disk.qcow2', '1M'], { cwd });
  const file = join(cwd, 'disk.qcow2');
  const bytes = await readFile(file);
  bytes[79] = 2;
  await writeFile(file, bytes);
  await blockfuse(['check', '--repair', 'all', 'disk.qcow2'], { cwd });
  t.is((await readFile(file))[79], 0);
  t.true((await stat(file)).size > 0);
  await sound(t, cwd, 'disk.qcow2');
});

test('amend makes version 3 of version 2, and refuses what it can not change', async (t) => {
  const cwd = await tempDir(t);
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  await makeChain(cwd);
  const create = [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    'compat=0.10',
    '-b',
    'base.qcow2',
    '-F',
    'qcow2',
    'old.qcow2',
  ];
  await run('qemu-img', create, { cwd });
  await run('qemu-io', ['-c', 'write -P 7 1M 300k', 'old.qcow2'], { cwd });
  await run('qemu-img', ['convert', '-O', 'raw', 'old.qcow2', 'old.raw'], { cwd });
  await blockfuse(['amend', '--options', 'compat=1.1,lazy_refcounts=on', 'old.qcow2'], { cwd });
  await judge(t, cwd)('old.raw', 'old.qcow2', 'qcow2');
  await sound(t, cwd, 'old.qcow2');
  const { stdout } = await run('qemu-img', ['info', 'old.qcow2'], { cwd });
  t.regex(stdout, /backing file: base.qcow2[^]*compat: 1.1[^]*lazy refcounts: true/);
  const outcome = await attemptBlockfuse(['amend', '--options', 'cluster_size=4k', 'old.qcow2'], { cwd });
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /"cluster_size" can't be changed once an image is made/);
});

test("compare has qemu-img's exit codes", async (t) => {
  const cwd = await tempDir(t);
  await makeSource(cwd);
  await blockfuse(['convert', '-f', 'raw', '-O', 'qcow2', 'source.raw', 'same.qcow2'], { cwd });
  await blockfuse(['create', 'empty.qcow2', '8M'], { cwd });
  const compare = async (other: string): Promise<number> =>
    (await attemptBlockfuse(['compare', '-f', 'raw', 'source.raw', other], { cwd })).code;
  t.is(await compare('same.qcow2'), 0);
  t.is(await compare('empty.qcow2'), 1);
  t.is(await compare('missing.qcow2'), 2);
  // What both read as is the same, what they store is not.
  await blockfuse(
    ['convert', '-f', 'raw', '-O', 'qcow2', '-o', 'preallocation=full', 'source.raw', 'full.qcow2'],
    {
      cwd,
    },
  );
  for (const [other, code] of [
    ['same.qcow2', 0],
    ['full.qcow2', 1],
  ] as const) {
    const strict = ['compare', '-s', 'same.qcow2', other];
    const ours = await attemptBlockfuse(strict, { cwd });
    t.is(ours.code, code, ours.stdout);
    if (canRun(t, 'qemu-img')) t.is((await attempt('qemu-img', strict, { cwd })).code, code);
    if (code === 1) t.regex(ours.stdout, /Strict mode: Offset \d+ block status mismatch!/);
  }
});

test('compare looks at what the longer image has more, and at nothing before it again', async (t) => {
  const cwd = await tempDir(t);
  const long = Buffer.alloc(3 * MIB);
  long.fill('data', 0, MIB + 700);
  await writeFile(join(cwd, 'long.raw'), long);
  await writeFile(join(cwd, 'short.raw'), long.subarray(0, MIB + 700));
  const compare = async (one: string, other: string): Promise<string> => {
    const args = ['compare', '-f', 'raw', '-F', 'raw', one, other];
    const outcome = await attemptBlockfuse(args, { cwd });
    return `${outcome.code} ${outcome.stdout}`.trim();
  };
  t.regex(await compare('long.raw', 'short.raw'), /^0 /);
  t.regex(await compare('short.raw', 'long.raw'), /^0 /);
  long[2 * MIB + 5] = 1;
  await writeFile(join(cwd, 'long.raw'), long);
  const different = `1 Content mismatch at offset ${2 * MIB + 5}!`;
  t.is(await compare('long.raw', 'short.raw'), different);
  t.is(await compare('short.raw', 'long.raw'), different);
});

test('lists of options that are given one after the other add up, and nothing is given twice', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  const lists = ['-o', 'cluster_size=4k', '-o', 'lazy_refcounts=on'];
  const isBoth = async (file: string): Promise<void> => {
    const { stdout } = await run('qemu-img', ['info', '--output=json', file], { cwd });
    const info = JSON.parse(stdout) as Record<string, unknown>;
    t.is(info['cluster-size'], 4096, file);
    t.like(info, { 'format-specific': { data: { 'lazy-refcounts': true } } }, file);
    t.is((await attempt('qemu-img', ['check', file], { cwd })).code, 0, file);
  };
  await blockfuse(['create', ...lists, 'made.qcow2', '1M'], { cwd });
  await isBoth('made.qcow2');
  await blockfuse(['convert', '-O', 'qcow2', ...lists, 'made.qcow2', 'copy.qcow2'], { cwd });
  await isBoth('copy.qcow2');
  await run(
    'qemu-img',
    ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=4k', 'old.qcow2', '1M'],
    { cwd },
  );
  await blockfuse(['amend', '-o', 'compat=1.1', '-o', 'lazy_refcounts=on', 'old.qcow2'], { cwd });
  await isBoth('old.qcow2');

  const what = ['-O', 'qcow2', '-o', 'cluster_size=512', '-o', 'refcount_bits=64', '--size', '5G'];
  const ours = await blockfuse(['measure', '--json', ...what], { cwd });
  const theirs = await run('qemu-img', ['measure', '--output=json', ...what], { cwd });
  t.deepEqual(JSON.parse(ours.stdout), JSON.parse(theirs.stdout));

  const twice = ['create', '-o', 'cluster_size=4k', '-o', 'cluster_size=512', 'twice.qcow2', '1M'];
  const refused = await attemptBlockfuse(twice, { cwd });
  t.is(refused.code, 2);
  t.regex(refused.stderr, /option "cluster_size" is given twice/);
});
