/** Every option of `create`, both ways: what qemu-img makes is used here, what is made here is the same to qemu-img. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { parseKeyValues } from '../../src/cli/key-values.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;
const SIZE = 3 * MIB + 512;

interface Info {
  readonly 'cluster-size': number;
  readonly 'virtual-size': number;
  readonly 'backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly 'format-specific': { readonly data: Readonly<Record<string, unknown>> };
}

async function infoOf(image: string, cwd: string): Promise<Info> {
  return JSON.parse((await run('qemu-img', ['info', '--output=json', image], { cwd })).stdout) as Info;
}

const told = (info: Info) => ({
  cluster: info['cluster-size'],
  size: info['virtual-size'],
  backing: info['backing-filename'],
  backingFormat: info['backing-filename-format'],
  data: info['format-specific'].data,
});

async function createHere(filename: string, options: string, size = SIZE): Promise<void> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    await createImage(graph, { filename, format: 'qcow2', size, options: parseKeyValues(options) });
  } finally {
    await graph.close();
  }
}

/** Reads all of it, which must be `before`; writes `add` at places of its own; tells what `info` shows. */
async function use(t: ExecutionContext, image: string, before: Buffer, add: Buffer): Promise<unknown> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', { discard: 'unmap' });
  const disk = graph.attachRoot(node, { name: 'test', used: 15 });
  const bytes = Buffer.alloc(SIZE);
  await disk.read(bytes, 0);
  t.true(bytes.equals(before), `${image} reads otherwise`);
  await disk.write(add, 2 * MIB - 700);
  await disk.writeZeroes(100_000, 200_000);
  const { formatSpecific } = (await node.impl.info?.()) ?? {};
  await graph.close();
  return formatSpecific;
}

/** Beside the options the images have data below, where something lies below. */
const works = test.macro<[string]>(async (t, options) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const cwd = await tempDir(t);
  const content = Buffer.alloc(SIZE);
  if (options.includes('backing_file')) content.fill(7, 0, MIB);
  await writeFile(join(cwd, 'base.raw'), content);
  const [theirs, ours] = ['theirs', 'ours'];
  const named = (image: string): string => options.replace('DATA', `${image}.data`);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', named(theirs), theirs, `${SIZE}`], { cwd });
  await createHere(join(cwd, ours), named(ours));
  const writing = ['-c', 'write -P 3 70k 300k', '-c', 'write -P 4 3145728 512'];
  for (const image of [theirs, ours]) await run('qemu-io', ['-f', 'qcow2', ...writing, image], { cwd });
  content.fill(3, 70 * 1024, 370 * 1024).fill(4, 3 * MIB);
  const add = Buffer.alloc(400_000, 'added here ');
  const shown = [];
  for (const image of [theirs, ours]) shown.push(await use(t, join(cwd, image), content, add));
  content.fill(0, 100_000, 300_000);
  add.copy(content, 2 * MIB - 700);
  await writeFile(join(cwd, 'want.raw'), content);
  const infos: Info[] = [];
  for (const [index, image] of [theirs, ours].entries()) {
    const check = await attempt('qemu-img', ['check', image], { cwd });
    t.is(check.code, 0, `${image}: ${check.stdout}${check.stderr}`);
    await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', 'want.raw', image], { cwd }));
    const info = await infoOf(image, cwd);
    t.deepEqual(shown[index], info['format-specific'].data);
    infos.push(info);
  }
  const data = (info: Info | undefined): unknown =>
    JSON.parse(JSON.stringify(info === undefined ? {} : told(info)).replace('theirs.data', 'ours.data'));
  t.deepEqual(data(infos[1]), data(infos[0]));
  if (!options.includes('data_file_raw=on')) return;
  t.true((await readFile(join(cwd, 'ours.data'))).equals(content), 'the data file is not the raw disk');
});

const backing = 'backing_file=base.raw,backing_fmt=raw';
const SIZES = ['512', '1k', '4k', '32k', '64k', '256k', '2M'];
const WORKS = [
  ...SIZES.map((size, index) => `cluster_size=${size},refcount_bits=${2 ** index}`),
  ...[
    'compat=0.10',
    'compat=1.1',
    'compat=v2,cluster_size=512,preallocation=metadata',
    `compat=v3,${backing}`,
  ],
  ...['lazy_refcounts=on,refcount_bits=1,cluster_size=2M', `compat=0.10,${backing}`],
  ...['extended_l2=on', 'extended_l2=on,cluster_size=16k', 'extended_l2=on,cluster_size=2M'],
  ...['compression_type=zlib', 'compression_type=zstd'],
  ...['metadata', 'falloc', 'full'].map((how) => `preallocation=${how}`),
  ...['falloc', 'full'].map((how) => `preallocation=${how},extended_l2=on`),
  ...['preallocation=metadata,cluster_size=512,refcount_bits=64'],
  ...[`preallocation=metadata,extended_l2=on,${backing}`, `data_file=DATA,cluster_size=512,${backing}`],
  ...['data_file=DATA,data_file_raw=on', 'data_file=DATA,data_file_raw=on,extended_l2=on'],
  ...['data_file=DATA,preallocation=full', 'data_file=DATA,lazy_refcounts=on,extended_l2=on'],
  `${backing},extended_l2=on,refcount_bits=32,lazy_refcounts=on`,
  'cluster_size=16k,refcount_bits=32,lazy_refcounts=on,extended_l2=on,compression_type=zstd,preallocation=metadata',
];
for (const options of WORKS) test.serial(options, works, options);

const REFUSED: readonly (readonly [string, RegExp])[] = [
  ['cluster_size=256', /cluster_size is 256, must be a power of two from 512 to 2097152/],
  ['cluster_size=4M', /cluster_size is 4194304/],
  ['cluster_size=3k', /cluster_size is 3072/],
  ['cluster_size=8k,extended_l2=on', /cluster_size is 8192, must be a power of two from 16384/],
  ['refcount_bits=0', /"refcount_bits" is "0", must be at least 1/],
  ['refcount_bits=3', /refcount_bits is 3, must be a power of two/],
  ['refcount_bits=128', /"refcount_bits" is "128", must be at most 64/],
  ['compat=1.0', /"compat" is "1.0", must be one of/],
  ['lazy_refcounts=maybe', /must be on or off/],
  ['preallocation=some', /"preallocation" is "some", must be one of off, metadata, falloc, full/],
  ['compression_type=lz4', /"compression_type" is "lz4", must be one of zlib, zstd/],
  ['compat=0.10,refcount_bits=1', /refcount_bits other than 16 needs compat=1.1/],
  ['compat=0.10,lazy_refcounts=on', /lazy_refcounts needs compat=1.1/],
  ['compat=0.10,extended_l2=on', /extended_l2 needs compat=1.1/],
  ['compat=0.10,compression_type=zstd', /compression_type=zstd needs compat=1.1/],
  ['compat=0.10,data_file=d', /data_file needs compat=1.1/],
  ['data_file_raw=on', /data_file_raw needs data_file/],
  ['data_file=', /data_file is empty, must be a name/],
  [`data_file=d,data_file_raw=on,${backing}`, /a raw data file and a backing file exclude each other/],
  [`preallocation=metadata,${backing}`, /preallocation=metadata would hide the backing file, but with/],
  ['backing_fmt=raw', /backing_fmt needs backing_file/],
  ['encrypt.format=none', /"encrypt.format" is "none", must be one of aes, luks/],
  ['encrypt.iter-time=10', /encrypt.iter-time needs encrypt.format=luks/],
  ['encrypt.cipher-alg=aes-128', /encrypt.cipher-alg needs encrypt.format=luks/],
  ['encrypt.format=luks', /it is encrypted, and no key was given/],
  ['encrypt.format=luks,encrypt.cipher-alg=serpent-512', /must be one of aes-128, aes-192, aes-256/],
  ['nonsense=1', /has no option "nonsense"/],
  ['encrypt.nonsense=1', /has no option "encrypt.nonsense"/],
];

test.serial(
  'what can not be is refused as qemu-img refuses it, and the file of that name is left alone',
  async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const cwd = await tempDir(t);
    await writeFile(join(cwd, 'base.raw'), Buffer.alloc(MIB));
    const image = join(cwd, 'image');
    for (const [options, message] of REFUSED) {
      const theirs = await attempt('qemu-img', ['create', '-f', 'qcow2', '-o', options, 'theirs', '1M'], {
        cwd,
      });
      t.not(theirs.code, 0, options);
      await writeFile(image, 'precious');
      const error = await t.throwsAsync(createHere(image, options, MIB), undefined, options);
      t.regex(error.message, message, options);
      t.is(await readFile(image, 'utf8'), 'precious', options);
    }
  },
);
