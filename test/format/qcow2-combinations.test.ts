/** Every combination of version, cluster size, refcount width and kind that the format allows: random work with snapshots, qemu-img as the judge. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { applySnapshot, changeSnapshots } from '../../src/block/internal-snapshots.ts';
import type { Node } from '../../src/block/node.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

type Kind = 'plain' | 'extended L2' | 'data file' | 'raw data file';

interface Case {
  readonly version: 2 | 3;
  readonly cluster: number;
  readonly refcountBits: number;
  readonly kind: Kind;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = new Map([
  [512, MIB],
  [4 * KIB, 3 * MIB],
  [64 * KIB, 8 * MIB],
  [2 * MIB, 20 * MIB],
]);
const KINDS: readonly Kind[] = ['plain', 'extended L2', 'data file', 'raw data file'];

/** What the format allows. */
function* combinations(): Generator<Case, void> {
  for (const cluster of SIZES.keys()) {
    yield { version: 2, cluster, refcountBits: 16, kind: 'plain' };
    for (const refcountBits of [1, 16, 64]) {
      for (const kind of KINDS) {
        if (kind !== 'extended L2' || cluster >= 16 * KIB) yield { version: 3, cluster, refcountBits, kind };
      }
    }
  }
}

function createOptions({ version, cluster, refcountBits, kind }: Case, folder: string): string {
  const data = `data_file=${join(folder, 'data.raw')}`;
  const more = {
    plain: [],
    'extended L2': ['extended_l2=on'],
    'data file': [data],
    'raw data file': [data, 'data_file_raw=on'],
  }[kind];
  const bits = version === 2 ? [] : [`refcount_bits=${refcountBits}`];
  return [`compat=${version === 2 ? '0.10' : '1.1'}`, `cluster_size=${cluster}`, ...bits, ...more].join();
}

const agrees = test.macro(async (t: ExecutionContext, given: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = seed(given.cluster + given.refcountBits + KINDS.indexOf(given.kind));
  const random = new Random(start);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const model = new ModelDisk(SIZES.get(given.cluster) ?? MIB);
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    createOptions(given, folder),
    image,
    `${model.size}`,
  ]);
  const snapshots = new Map<string, Buffer>();
  for (let round = 0; round < rounds(1, 10); round += 1) {
    const graph = new Graph({ drivers: DRIVERS });
    try {
      const node = await graph.openImage(image, 'qcow2', { discard: 'unmap' });
      const disk = childDisk(graph.attachRoot(node, { name: 'test', used: 15 }), random);
      for (let step = 0; step < 4; step += 1) {
        await exercise(disk, model, {
          random,
          operations: rounds(25, 200),
          concurrency: 6,
          maxLength: Math.max(2 * given.cluster, 100_000),
          borders: [given.cluster, 4096],
        });
        if (mayShare(given)) await changeOne({ graph, node, random, model, snapshots }, round * 10 + step);
      }
      await verify(disk, model);
    } finally {
      await graph.close();
    }
    await judge(t, { folder, image, model, snapshots });
  }
});

const mayShare = ({ kind, refcountBits }: Case): boolean => !kind.includes('data file') && refcountBits > 1;

interface Work {
  readonly graph: Graph;
  readonly node: Node;
  readonly random: Random;
  readonly model: ModelDisk;
  readonly snapshots: Map<string, Buffer>;
}

async function changeOne({ graph, node, random, model, snapshots }: Work, number: number): Promise<void> {
  const way = snapshots.size < 2 ? 0 : random.below(3);
  if (way === 0) {
    await changeSnapshots(graph, node, (all) => all.create(`s${number}`));
    snapshots.set(`s${number}`, Buffer.from(model.bytes));
    return;
  }
  const name = random.pick([...snapshots.keys()]);
  if (way === 1) {
    await applySnapshot(graph, node, name);
    model.bytes = Buffer.from(snapshots.get(name) ?? Buffer.alloc(0));
    return;
  }
  await changeSnapshots(graph, node, (all) => all.delete(name));
  snapshots.delete(name);
}

interface Judged {
  readonly folder: string;
  readonly image: string;
  readonly model: ModelDisk;
  readonly snapshots: ReadonlyMap<string, Buffer>;
}

async function judge(t: ExecutionContext, { folder, image, model, snapshots }: Judged): Promise<void> {
  const raw = join(folder, 'expected.raw');
  await writeFile(raw, model.bytes);
  const check = await attempt('qemu-img', ['check', image]);
  t.is(check.code, 0, check.stdout + check.stderr);
  await t.notThrowsAsync(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image]));
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as {
    snapshots?: { name: string }[];
  };
  const names = (info.snapshots ?? []).map(({ name }) => name);
  t.deepEqual(names.sort(), [...snapshots.keys()].sort());
  for (const [name, content] of snapshots) {
    const out = join(folder, 'snapshot.raw');
    await run('qemu-img', ['convert', '-l', `snapshot.name=${name}`, '-O', 'raw', image, out]);
    t.true((await readFile(out)).equals(content), `snapshot ${name}`);
  }
}

for (const given of combinations()) {
  const { version, cluster, refcountBits, kind } = given;
  test.serial(
    `version ${version}, clusters of ${cluster}, ${refcountBits}-bit refcounts, ${kind}`,
    agrees,
    given,
  );
}
