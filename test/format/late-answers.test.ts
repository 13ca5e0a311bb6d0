/**
 * Every format that is written, over a file that answers late and out of order: what comes between two steps of the
 * driver's own does come, on every machine. qemu-img is the judge.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { blockfuse } from '../helpers/program.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { SlowDisk, slowDriverOver } from '../helpers/slow-disk.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { hold, release } from './small-image.ts';

interface Shape {
  readonly format: string;
  readonly options?: string;
  /** QEMU does not know the option: the next session is the judge. */
  readonly ours?: boolean;
  /** qemu-img check knows the format. */
  readonly checked?: boolean;
  /** What qemu-img may make the disk larger than asked for by: whole cylinders. */
  readonly size: number;
  /** Allocated as one. */
  readonly unit: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SHAPES: readonly Shape[] = [
  { format: 'qcow2', options: 'cluster_size=512', checked: true, size: 300 * KIB, unit: 512 },
  {
    format: 'qcow2',
    options: 'cluster_size=4k,refcount_bits=1',
    checked: true,
    size: 2 * MIB,
    unit: 4 * KIB,
  },
  {
    format: 'qcow2',
    options: 'extended_l2=on,cluster_size=16k',
    checked: true,
    size: 4 * MIB,
    unit: 16 * KIB,
  },
  { format: 'qcow2', options: 'compat=0.10', checked: true, size: 8 * MIB, unit: 64 * KIB },
  { format: 'vmdk', checked: true, size: 6 * MIB, unit: 64 * KIB },
  { format: 'vdi', checked: true, size: 24 * MIB, unit: MIB },
  { format: 'vdi', options: 'block_size=4096', ours: true, size: 2 * MIB - 512, unit: 4 * KIB },
  { format: 'vhdx', options: 'block_size=1M', checked: true, size: 24 * MIB, unit: MIB },
  { format: 'vpc', options: 'force_size=on', size: 40 * MIB, unit: 2 * MIB },
  { format: 'qcow', size: 2 * MIB, unit: 4 * KIB },
  { format: 'qed', options: 'cluster_size=4k', checked: true, size: 4 * MIB, unit: 4 * KIB },
  { format: 'parallels', options: 'cluster_size=64k', checked: true, size: 8 * MIB, unit: 64 * KIB },
];

const agrees = test.macro(async (t: ExecutionContext, shape: Shape) => {
  if (!canRun(t, 'qemu-img')) return;
  const { format, size, unit } = shape;
  for (let round = 0; round < rounds(2, 40); round += 1) {
    const ownSeed = seed(4000 + round);
    const random = new Random(ownSeed);
    const image = join(await tempDir(t), `disk.${format}`);
    const options = shape.options === undefined ? [] : ['-o', shape.options];
    const create = ['create', '-f', format, ...options, image, `${size}`];
    await (shape.ours === true ? blockfuse(create) : run('qemu-img', create));
    const model = new ModelDisk(size);
    const parameters = { size: 0, seed: ownSeed, alignment: 1, 'fail-per-mille': 0 };
    const file = new SlowDisk(parameters, await readFile(image));
    const graph = new Graph({ drivers: [...DRIVERS, slowDriverOver(file)] });
    t.teardown(() => graph.close());
    for (let session = 0; session < 2; session += 1) {
      const child = await hold(graph, { driver: format, discard: 'unmap', file: { driver: 'slow-image' } });
      t.is(child.size, size);
      const disk = childDisk(child, random);
      const work = { random, operations: 250, concurrency: 12, maxLength: unit * 3, borders: [unit] };
      await exercise(disk, model, work).catch((error: unknown) => {
        throw new Error(`BLOCKFUSE_SEED=${ownSeed}: ${String(error)}`, { cause: error });
      });
      await verify(disk, model);
      await release(graph, child);
      await writeFile(image, file.content);
      if (shape.ours !== true) await judge(t, image, shape, model.bytes);
    }
  }
});

async function judge(t: ExecutionContext, image: string, shape: Shape, wanted: Buffer): Promise<void> {
  const { format, checked = false } = shape;
  if (checked) {
    const { code, stdout, stderr } = await attempt('qemu-img', ['check', '-f', format, image]);
    t.is(code, 0, stdout + stderr);
  }
  await run('qemu-img', ['convert', '-f', format, '-O', 'raw', image, `${image}.raw`]);
  t.is(difference(await readFile(`${image}.raw`), wanted), undefined);
}

for (const shape of SHAPES) test(`${shape.format} ${shape.options ?? ''}`.trim(), agrees, shape);
