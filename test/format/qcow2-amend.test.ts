/** amend of qcow2 images: what qemu-img makes of them afterwards, and what is refused by name. */
import { access, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { Random } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const SIZE = 3 * 1024 * 1024;

/** Opens as the command does, amends, closes. */
async function amend(image: string, options: Readonly<Record<string, string>>): Promise<number> {
  const graph = new Graph({ drivers: DRIVERS });
  let calls = 0;
  try {
    const node = await graph.openImage(image, 'qcow2', 'size' in options ? {} : { backing: null });
    if (node.impl.family !== 'mapping' || node.impl.amend === undefined)
      throw new Error('it can not be amended');
    const progress = (): void => {
      calls += 1;
    };
    const secret = () => Promise.reject(new Error('no key is asked for'));
    await node.impl.amend({ options, force: false, secret, progress });
  } finally {
    await graph.close();
  }
  return calls;
}

interface Made {
  readonly folder: string;
  readonly image: string;
  readonly content: Buffer;
}

interface How {
  readonly backing?: boolean;
  readonly snapshot?: boolean;
}

/** Data, holes, and zero clusters with and without a place; over data with `backing`. */
async function makeImage(t: ExecutionContext, options: string, how: How = {}): Promise<Made> {
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const content = how.backing === true ? new Random(9).softBytes(SIZE) : Buffer.alloc(SIZE);
  await writeFile(join(folder, 'base.raw'), content);
  const below = how.backing === true ? ['-b', 'base.raw', '-F', 'raw'] : [];
  const given = options.replace('DATA', join(folder, 'data.raw'));
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', given, ...below, image, `${SIZE}`]);
  await run('qemu-io', ['-c', 'write -P 3 100k 700k', '-c', 'write -P 4 2M 1M', image]);
  content.fill(3, 100 * 1024, 800 * 1024).fill(4, 2 * 1024 * 1024);
  if (how.snapshot === true) await run('qemu-img', ['snapshot', '-c', 'before', image]);
  await run('qemu-io', ['-d', 'unmap', '-c', 'write -z 200k 100k', '-c', 'write -zu 1M 256k', image]);
  content.fill(0, 200 * 1024, 300 * 1024).fill(0, 1024 * 1024, 1280 * 1024);
  return { folder, image, content };
}

interface Info {
  readonly 'backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly 'format-specific': { readonly data: Readonly<Record<string, unknown>> };
}

async function judge(t: ExecutionContext, { folder, image, content }: Made): Promise<Info> {
  const raw = join(folder, 'expected.raw');
  await writeFile(raw, content);
  const check = await attempt('qemu-img', ['check', image]);
  t.is(check.code, 0, check.stdout + check.stderr);
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image]));
  return JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as Info;
}

const becomes = test.macro(
  async (
    t: ExecutionContext,
    made: readonly [string, How?],
    options: Readonly<Record<string, string>>,
    expected: Readonly<Record<string, unknown>>,
  ) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    const [create, how] = made;
    const image = await makeImage(t, create, how);
    await amend(image.image, options);
    const info = await judge(t, image);
    t.like(info['format-specific'].data, expected);
    if (how?.backing === true) t.is(info['backing-filename'], 'base.raw');
    const graph = new Graph({ drivers: DRIVERS });
    const node = await graph.openImage(image.image, 'qcow2');
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    await disk.write(Buffer.alloc(90_000, 8), 1_200_000);
    image.content.fill(8, 1_200_000, 1_290_000);
    await graph.close();
    await judge(t, image);
  },
);

test(
  'version 2 becomes 3',
  becomes,
  ['compat=0.10', { backing: true }],
  { compat: '1.1', lazy_refcounts: 'on' },
  {
    compat: '1.1',
    'lazy-refcounts': true,
  },
);
test(
  'version 3 becomes 2: zero clusters go',
  becomes,
  ['cluster_size=4k,lazy_refcounts=on'],
  { compat: '0.10' },
  { compat: '0.10' },
);
test(
  'version 3 becomes 2 over a backing file: zero clusters are written',
  becomes,
  ['cluster_size=4k', { backing: true }],
  { compat: 'v2' },
  {
    compat: '0.10',
  },
);
test(
  'version 3 of 8-bit refcounts becomes 2',
  becomes,
  ['refcount_bits=8', { backing: true }],
  { compat: 'v2', refcount_bits: '16' },
  {
    compat: '0.10',
    'refcount-bits': 16,
  },
);
test(
  'lazy refcounts end',
  becomes,
  ['lazy_refcounts=on'],
  { lazy_refcounts: 'off' },
  { 'lazy-refcounts': false },
);
test(
  'refcounts get wider',
  becomes,
  ['cluster_size=512,refcount_bits=1'],
  { refcount_bits: '64' },
  { 'refcount-bits': 64 },
);
test(
  'refcounts get narrower',
  becomes,
  ['cluster_size=4k,refcount_bits=64'],
  { refcount_bits: '1' },
  { 'refcount-bits': 1 },
);
test(
  'refcounts of a shared disk',
  becomes,
  ['refcount_bits=16', { snapshot: true }],
  { refcount_bits: '2' },
  { 'refcount-bits': 2 },
);

test('progress is told', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { image } = await makeImage(t, 'cluster_size=4k');
  t.true((await amend(image, { compat: '0.10' })) > 1);
});

test('the data file gets another name, and is not raw any more', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const made = await makeImage(t, 'data_file=DATA,data_file_raw=on');
  const moved = join(made.folder, 'moved.raw');
  await amend(made.image, { data_file: moved, data_file_raw: 'off' });
  await t.notThrowsAsync(access(join(made.folder, 'data.raw')));
  await rename(join(made.folder, 'data.raw'), moved);
  const info = await judge(t, made);
  t.like(info['format-specific'].data, { 'data-file': moved, 'data-file-raw': false });
});

const refuses = test.macro(
  async (t: ExecutionContext, create: string, options: Readonly<Record<string, string>>, message: RegExp) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    const made = await makeImage(t, create, {
      snapshot: !create.includes('data_file') && !create.includes('bits=1,'),
    });
    const before = JSON.stringify(await judge(t, made));
    const error = await t.throwsAsync(amend(made.image, options));
    t.regex(error.message, message);
    t.is(JSON.stringify(await judge(t, made)), before);
  },
);

test(
  'refused: extended L2 in version 2',
  refuses,
  'extended_l2=on',
  { compat: '0.10' },
  /"extended L2 entries", which needs compat=1.1/,
);
test(
  'refused: zstd in version 2',
  refuses,
  'compression_type=zstd',
  { compat: '0.10' },
  /"compression type", which needs compat=1.1/,
);
test(
  'refused: a data file in version 2',
  refuses,
  'data_file=DATA',
  { compat: '0.10' },
  /"external data file", which needs/,
);
test(
  'refused: 8-bit refcounts in version 2',
  refuses,
  'refcount_bits=8',
  { compat: '0.10' },
  /refcount_bits is 8, compat=0.10 has 16/,
);
test(
  'refused: lazy refcounts in version 2',
  refuses,
  'compat=0.10',
  { lazy_refcounts: 'on' },
  /lazy_refcounts needs compat=1.1/,
);
test(
  'refused: refcounts that do not fit',
  refuses,
  'refcount_bits=16',
  { refcount_bits: '1' },
  /has 2 references, over what 1 bits hold/,
);
test(
  'refused: odd refcounts',
  refuses,
  'refcount_bits=16',
  { refcount_bits: '12' },
  /refcount_bits is 12, must be a power of two/,
);
test(
  'refused: a data file where there is none',
  refuses,
  'compat=1.1',
  { data_file: 'x' },
  /only be changed where the image has one/,
);
test(
  'refused: a data file becomes raw',
  refuses,
  'data_file=DATA',
  { data_file_raw: 'on' },
  /data_file_raw can not be set/,
);
test(
  'refused: another cluster size',
  refuses,
  'compat=1.1',
  { cluster_size: '4k' },
  /"cluster_size" can't be changed once an image is made/,
);
test('refused: a smaller disk', refuses, 'compat=1.1', { size: '1M' }, /1048576 would cut off data/);
test('refused: no size', refuses, 'compat=1.1', { size: 'much' }, /size is "much", must be a size in bytes/);
test(
  'refused: a format of nothing',
  refuses,
  'compat=1.1',
  { backing_fmt: 'raw' },
  /backing_fmt needs a backing/,
);
test(
  'refused: keys of what has none',
  refuses,
  'compat=1.1',
  { 'encrypt.state': 'active' },
  /encrypted with LUKS/,
);
test(
  'refused: nothing is changed where the last of it can not be',
  refuses,
  'refcount_bits=16',
  { lazy_refcounts: 'on', backing_file: 'other.raw', size: '8M', refcount_bits: '1' },
  /has 2 references, over what 1 bits hold/,
);
test(
  'refused: a name that the first cluster has no room for',
  refuses,
  'cluster_size=512,compat=0.10',
  { backing_file: 'x'.repeat(400), compat: '1.1' },
  /the first cluster has 512/,
);

test('another size, over a backing file that is longer', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const made = await makeImage(t, 'refcount_bits=8', { backing: true });
  await writeFile(join(made.folder, 'base.raw'), new Random(9).softBytes(2 * SIZE));
  await amend(made.image, { size: `${SIZE + 66_048}`, refcount_bits: '32' });
  const content = Buffer.alloc(SIZE + 66_048);
  made.content.copy(content);
  const info = await judge(t, { ...made, content });
  t.like(info['format-specific'].data, { 'refcount-bits': 32 });
});

test('another backing file, another format, and none', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const made = await makeImage(t, 'cluster_size=4k', { backing: true });
  await rename(join(made.folder, 'base.raw'), join(made.folder, 'moved.raw'));
  await amend(made.image, { backing_file: 'moved.raw', lazy_refcounts: 'on' });
  const info = await judge(t, made);
  t.like(info, { 'backing-filename': 'moved.raw', 'backing-filename-format': 'raw' });
  await amend(made.image, { backing_file: '' });
  const { stdout } = await run('qemu-img', ['info', '--output=json', made.image]);
  t.false(stdout.includes('backing'), stdout);
  t.is((await attempt('qemu-img', ['check', made.image])).code, 0);
});

test('other refcounts, with bitmaps and a snapshot that stay', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const made = await makeImage(t, 'refcount_bits=16', { snapshot: true });
  for (const [name, granularity] of [
    ['fine', '4k'],
    ['coarse', '1M'],
  ] as const)
    await run('qemu-img', ['bitmap', '--add', '-g', granularity, made.image, name]);
  await run('qemu-io', ['-c', 'write -P 9 1M 10k', made.image]);
  made.content.fill(9, 1024 * 1024, 1024 * 1034);
  const bitmaps = async (): Promise<unknown> => (await judge(t, made))['format-specific'].data['bitmaps'];
  const before = await bitmaps();
  for (const bits of ['2', '64', '8']) {
    await amend(made.image, { refcount_bits: bits, ...(bits === '8' ? { size: `${SIZE}` } : {}) });
    t.deepEqual(await bitmaps(), before);
    t.regex((await run('qemu-img', ['snapshot', '-l', made.image])).stdout, /before/);
  }
});
