/** Random requests through the real mount, compared with a model; afterwards qemu-img is the judge. */
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { ChainShape } from '../helpers/chain.ts';
import { makeChain } from '../helpers/chain.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { mountedDisk } from '../helpers/mounted-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import type { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

interface Case extends Partial<ChainShape> {
  /** Further arguments of the mount command. */
  readonly mount?: readonly string[];
  /** Opened with O_DIRECT by the test. */
  readonly direct?: boolean;
  readonly borders?: readonly number[];
}

/** What qemu-img check knows. */
const CHECKED = new Set(['qcow2', 'vmdk', 'vdi', 'vhdx', 'qed', 'parallels']);
const MiB = 1024 * 1024;
const SIZE = 12 * MiB + 512;

const agrees = test.macro(async (t: ExecutionContext, given: Case) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  for (let round = 0; round < rounds(1, 20); round += 1) {
    const ownSeed = seed(100 + round);
    const random = new Random(ownSeed);
    const folder = await tempDir(t);
    const shape = { format: 'qcow2', depth: 1, size: SIZE, ...given };
    const { image, model } = await makeChain(folder, shape, random);
    for (let session = 0; session < 2; session += 1)
      await runSession(t, image, model, { ...given, random, ownSeed });
    await judge(folder, image, model, shape.format);
  }
  t.pass();
});

interface Session extends Case {
  readonly random: Random;
  readonly ownSeed: number;
}

/** Mounts, writes and reads at random, and unmounts. */
async function runSession(
  t: ExecutionContext,
  image: string,
  model: ModelDisk,
  session: Session,
): Promise<void> {
  const { random, ownSeed, direct = false, borders = [] } = session;
  const mounted = await mountImage(t, image, session.mount ?? []);
  const disk = await mountedDisk(t, mounted.file, direct ? constants.O_DIRECT : 0);
  const operations = rounds(300, 3000);
  const run = {
    random,
    operations,
    concurrency: 12,
    maxLength: 300_000,
    borders: [65_536, ...borders],
    discardZeroes: true,
  };
  await exercise(disk, model, run).catch((error: unknown) => {
    throw new Error(`seed ${ownSeed}: ${String(error)}`, { cause: error });
  });
  await verify(disk, model);
  await disk.close();
  await mounted.unmount();
}

async function judge(folder: string, image: string, model: ModelDisk, format: string): Promise<void> {
  const wanted = join(folder, 'wanted.raw');
  await writeFile(wanted, model.bytes);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', format, wanted, image]);
  if (CHECKED.has(format)) await run('qemu-img', ['check', '-f', format, image]);
}

const qcow2 = (cluster: string, refcountBits = 16): string =>
  `cluster_size=${cluster},refcount_bits=${refcountBits}`;

test.serial('raw agrees with the model', agrees, { format: 'raw' });
test.serial('raw, direct', agrees, { format: 'raw', direct: true });
test.serial('qcow2', agrees, {});
test.serial('qcow2, direct', agrees, { direct: true });
test.serial('qcow2 of version 2', agrees, { create: 'compat=0.10' });
test.serial('qcow2 with 512 byte clusters', agrees, { create: qcow2('512'), borders: [32_768] });
test.serial('qcow2 with 4 KiB clusters, 1 bit refcounts', agrees, { create: qcow2('4k', 1) });
test.serial('qcow2 with 2 MiB clusters, 64 bit refcounts', agrees, {
  create: qcow2('2M', 64),
  size: 24 * MiB + 512,
  borders: [2 * MiB],
});
test.serial('qcow2 with 512 byte clusters, 64 bit refcounts', agrees, { create: qcow2('512', 64) });
test.serial('qcow2 with 64 KiB clusters, 1 bit refcounts', agrees, { create: qcow2('64k', 1) });
test.serial('qcow2 with 2 MiB clusters, 1 bit refcounts', agrees, {
  create: qcow2('2M', 1),
  size: 24 * MiB,
  borders: [2 * MiB],
});
test.serial('qcow2 with lazy refcounts', agrees, { create: 'lazy_refcounts=on' });
test.serial('qcow2, compressed', agrees, { compressed: true });
test.serial('qcow2, compressed with zstd', agrees, { compressed: true, create: 'compression_type=zstd' });
test.serial('a chain of 2', agrees, { depth: 2 });
test.serial('a chain of 2, direct', agrees, { depth: 2, direct: true });
test.serial('a chain of 3 with 4 KiB clusters on a compressed base', agrees, {
  depth: 3,
  create: qcow2('4k'),
  compressed: true,
});
test.serial('a chain of 4 with 512 byte clusters', agrees, { depth: 4, create: qcow2('512', 1) });
test.serial('a chain of 5', agrees, { depth: 5 });
test.serial('a chain of 5 with 2 MiB clusters on a compressed base', agrees, {
  depth: 5,
  create: qcow2('2M'),
  size: 24 * MiB + 512,
  compressed: true,
});
test.serial('qcow2 with detect-zeroes=unmap', agrees, { mount: ['--detect-zeroes', 'unmap'] });
test.serial('qcow2 past the host cache', agrees, { mount: ['--cache', 'none'] });
test.serial('qcow2 with extended L2 entries', agrees, { create: 'extended_l2=on', borders: [2048] });
test.serial('a chain of 3 with extended L2 entries, direct', agrees, {
  depth: 3,
  create: 'extended_l2=on,cluster_size=16k',
  borders: [512],
  direct: true,
});
test.serial('qcow2 with every write made stable', agrees, { mount: ['--cache', 'writethrough'] });
for (const [format, create] of [
  ['vmdk', undefined],
  ['vdi', undefined],
  ['vpc', 'force_size=on'],
  ['vhdx', undefined],
  ['qed', undefined],
  ['parallels', undefined],
  ['qcow', undefined],
] as const) {
  test.serial(`${format} agrees with the model`, agrees, {
    format,
    ...(create === undefined ? {} : { create }),
  });
}
