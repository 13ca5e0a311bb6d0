/** Images made here, judged by qemu-img and used by both. */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
type Options = Readonly<Record<string, unknown>>;

async function create(t: ExecutionContext, size: number, options: Options): Promise<string> {
  const filename = join(await tempDir(t), 'image.qcow2');
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  await createImage(graph, { filename, format: 'qcow2', size, options });
  return filename;
}

interface Info {
  readonly 'virtual-size': number;
  readonly 'cluster-size': number;
  readonly 'actual-size': number;
  readonly 'backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly 'format-specific': { readonly data: Readonly<Record<string, unknown>> };
}

/** QEMU looks for a relative data file in the current folder. */
const qemuImg = (image: string, ...args: string[]) => run('qemu-img', args, { cwd: dirname(image) });

async function info(image: string): Promise<Info> {
  return JSON.parse((await qemuImg(image, 'info', '--output=json', image)).stdout) as Info;
}

const works = test.macro<[Options, Options, number?]>(
  async (t: ExecutionContext, options, expected, size = 20 * MIB) => {
    if (!canRun(t, 'qemu-img')) return;
    const image = await create(t, size, options);
    await t.notThrowsAsync(qemuImg(image, 'check', image));
    const found = await info(image);
    t.is(found['virtual-size'], size);
    t.like({ 'cluster-size': found['cluster-size'], ...found['format-specific'].data }, expected);
    const random = new Random(seed(size));
    const model = new ModelDisk(size);
    const graph = new Graph({ drivers: DRIVERS });
    t.teardown(() => graph.close());
    const node = await graph.openImage(image, 'qcow2', { discard: 'unmap' });
    const disk = childDisk(graph.attachRoot(node, { name: 'test', used: 15 }), random);
    await verify(disk, model);
    await exercise(disk, model, {
      random,
      operations: 150,
      concurrency: 6,
      maxLength: 200_000,
      borders: [65536, 512],
    });
    await verify(disk, model);
    await graph.close();
    const raw = `${image}.raw`;
    await writeFile(raw, model.bytes);
    await t.notThrowsAsync(qemuImg(image, 'check', image));
    await t.notThrowsAsync(qemuImg(image, 'compare', '-f', 'raw', '-F', 'qcow2', raw, image));
  },
);

test.serial(
  'defaults',
  works,
  {},
  { compat: '1.1', 'cluster-size': 65536, 'refcount-bits': 16, 'lazy-refcounts': false },
);
test.serial('compat=0.10', works, { compat: '0.10' }, { compat: '0.10', 'refcount-bits': 16 });
test.serial('512-byte clusters', works, { cluster_size: '512' }, { 'cluster-size': 512 });
test.serial(
  '512-byte clusters, 64-bit refcounts, long L1 table',
  works,
  { cluster_size: '512', refcount_bits: 64 },
  { 'cluster-size': 512, 'refcount-bits': 64 },
);
test.serial(
  '2M clusters, 1-bit refcounts',
  works,
  { cluster_size: '2M', refcount_bits: 1 },
  { 'refcount-bits': 1 },
);
test.serial('lazy refcounts', works, { lazy_refcounts: 'on' }, { 'lazy-refcounts': true });
test.serial('extended L2', works, { extended_l2: 'on' }, { 'extended-l2': true });
test.serial('zstd', works, { compression_type: 'zstd' }, { 'compression-type': 'zstd' });
test.serial(
  'data file',
  works,
  { data_file: 'data.raw' },
  { 'data-file': 'data.raw', 'data-file-raw': false },
);
test.serial(
  'raw data file',
  works,
  { data_file: 'data.raw', data_file_raw: 'on' },
  { 'data-file-raw': true },
);
test.serial('preallocation=metadata', works, { preallocation: 'metadata' }, { compat: '1.1' });
test.serial(
  'preallocation=metadata, 4k clusters, extended L2',
  works,
  { preallocation: 'metadata', cluster_size: '16k', extended_l2: true },
  { 'extended-l2': true },
);
test.serial('preallocation=falloc', works, { preallocation: 'falloc' }, { compat: '1.1' });
test.serial('preallocation=full', works, { preallocation: 'full' }, { compat: '1.1' });
test.serial('odd size', works, {}, { compat: '1.1' }, 3 * MIB + 512);

test('a size of 0', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await create(t, 0, {});
  await t.notThrowsAsync(qemuImg(image, 'check', image));
  t.is((await info(image))['virtual-size'], 0);
});

test('16 TiB take a moment and no space', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = await create(t, 16 * 2 ** 40, {});
  const found = await info(image);
  t.is(found['virtual-size'], 16 * 2 ** 40);
  t.true(found['actual-size'] < MIB);
});

test('a backing file and its format are named', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const base = await create(t, MIB, {});
  await run('qemu-io', ['-c', 'write -P 9 0 64k', base]);
  const image = join(base, '..', 'top.qcow2');
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const options = { backing_file: 'image.qcow2', backing_fmt: 'qcow2' };
  await createImage(graph, { filename: image, format: 'qcow2', size: MIB, options });
  const found = await info(image);
  t.is(found['backing-filename'], 'image.qcow2');
  t.is(found['backing-filename-format'], 'qcow2');
  t.notRegex((await run('qemu-io', ['-c', 'read -P 9 0 64k', image])).stdout, /verification failed/);
});

const refuses = test.macro(async (t: ExecutionContext, options: Options, message: RegExp) => {
  await t.throwsAsync(create(t, MIB, options), { message });
});

test(
  'cluster size',
  refuses,
  { cluster_size: '3k' },
  /cluster_size is 3072, must be a power of two from 512 to 2097152/,
);
test(
  'extended L2, small',
  refuses,
  { cluster_size: '4k', extended_l2: true },
  /must be a power of two from 16384 to 2097152 with/,
);
test('refcount bits', refuses, { refcount_bits: 12 }, /refcount_bits is 12, must be a power of two/);
test(
  'version 2 and zstd',
  refuses,
  { compat: '0.10', compression_type: 'zstd' },
  /compression_type=zstd needs compat=1.1/,
);
test('raw without a file', refuses, { data_file_raw: true }, /data_file_raw needs data_file/);
test(
  'raw and backing',
  refuses,
  { data_file: 'd', data_file_raw: true, backing_file: 'b' },
  /exclude each other/,
);
test('unknown option', refuses, { nonsense: 1 }, /has no option "nonsense"/);
