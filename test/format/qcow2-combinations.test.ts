/**
 * Every combination of version, cluster size, refcount width and kind that the format allows: random changes of content, size,
 * bitmaps and snapshots, in turns with QEMU's, against a model, with qemu-img as the judge.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import type { Node } from '../../src/block/node.ts';
import { alignDown } from '../../src/util/sizes.ts';
import { extentsOf, parseQemuExtents, qemuExtentsCommand } from '../helpers/dirty-extents.ts';
import { verify } from '../helpers/exercise.ts';
import type { Command } from '../helpers/run.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { runEach } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { ModelBitmap, ModelImage } from './bitmap-model.ts';
import { contents } from './disk-deeds.ts';
import { ImageWork } from './image-work.ts';
import type { Allowed } from './image-work.ts';

type Kind = 'plain' | 'extended L2' | 'data file' | 'raw data file' | 'lazy refcounts';

interface Case {
  readonly version: 2 | 3;
  readonly cluster: number;
  readonly refcountBits: number;
  readonly kind: Kind;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = new Map([
  [512, MIB + 1024],
  [4 * KIB, 2.5 * MIB],
  [64 * KIB, 3 * MIB],
  [2 * MIB, 6.5 * MIB],
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
  yield { version: 3, cluster: 4 * KIB, refcountBits: 16, kind: 'lazy refcounts' };
}

function createOptions({ version, cluster, refcountBits, kind }: Case, folder: string): string {
  const data = `data_file=${join(folder, 'data.raw')}`;
  const more = {
    plain: [],
    'extended L2': ['extended_l2=on'],
    'data file': [data],
    'raw data file': [data, 'data_file_raw=on'],
    'lazy refcounts': ['lazy_refcounts=on'],
  }[kind];
  const bits = version === 2 ? [] : [`refcount_bits=${refcountBits}`];
  return [`compat=${version === 2 ? '0.10' : '1.1'}`, `cluster_size=${cluster}`, ...bits, ...more].join();
}

function allowedFor({ version, cluster, refcountBits, kind }: Case): Allowed {
  return {
    cluster,
    size: SIZES.get(cluster) ?? MIB,
    bitmaps: version === 3,
    snapshots: !kind.includes('data file') && refcountBits > 1,
    resizes: version === 3 || 'without snapshots',
    shrinks: kind !== 'raw data file',
  };
}

const agrees = test.macro(async (t: ExecutionContext, given: Case) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo')) return;
  const start = seed(given.cluster + given.refcountBits + KINDS.indexOf(given.kind));
  const random = new Random(start);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const allowed = allowedFor(given);
  const options = createOptions(given, folder);
  const create: Command = ['qemu-img', 'create', '-f', 'qcow2', '-o', options, image, `${allowed.size}`];
  const model = new ModelImage(allowed.size);
  for (let round = 0; round < rounds(2, 6); round += 1) {
    const changes = changesByQemu(image, { model, random, allowed });
    await runEach(round === 0 ? [create, ...changes] : changes);
    const work = await ImageWork.open(image, { model, random, allowed });
    try {
      sameBitmaps(t, work.node, model);
      for (let step = 0; step < rounds(50, 300); step += 1) await work.step();
      await verify(work.door, model.disk);
      sameBitmaps(t, work.node, model);
      await sameSnapshots(t, work, model);
    } finally {
      await work.graph.close();
    }
    await judge(t, { folder, image, model });
  }
});

/** Commands by which QEMU changes bitmaps and content of an image that nobody has open; the model is changed already. */
function changesByQemu(
  image: string,
  work: { model: ModelImage; random: Random; allowed: Allowed },
): Command[] {
  const { model, random, allowed } = work;
  const offset = alignDown(random.below(model.disk.size - 70_000), 512);
  const commands = allowed.bitmaps ? bitmapByQemu(image, model, random) : [];
  model.disk.write(Buffer.alloc(65536, 77), offset);
  model.touched(offset, 65536);
  return [...commands, ['qemu-io', '-f', 'qcow2', '-c', `write -P 77 ${offset} 65536`, image]];
}

/** One bitmap is made, or changed by another; all in one process. */
function bitmapByQemu(image: string, model: ModelImage, random: Random): Command[] {
  const [source, existing] = [...model.bitmaps.keys()];
  const free = [0, 1, 2, 3, 4, 5].map((n) => `b${n}`).find((name) => !model.bitmaps.has(name));
  const added = free !== undefined && (existing === undefined || random.chance(0.6)) ? free : undefined;
  const name = added ?? existing;
  if (name === undefined) return [];
  const granularity = 2 ** random.between(9, 17);
  const bitmap = model.bitmaps.get(name) ?? new ModelBitmap(granularity, true);
  const steps = added === undefined ? [] : ['--add', '-g', `${granularity}`];
  if (random.chance(0.3)) {
    steps.push('--clear');
    bitmap.granules.clear();
  }
  const from = source === undefined ? undefined : model.bitmaps.get(source);
  if (source !== undefined && from !== undefined) {
    steps.push('--merge', source);
    bitmap.merge(from, model.disk.size);
  }
  model.bitmaps.set(name, bitmap);
  return steps.length === 0 ? [] : [['qemu-img', 'bitmap', ...steps, '-f', 'qcow2', image, name]];
}

interface QemuInfo {
  readonly snapshots?: readonly { readonly name: string }[];
  readonly 'format-specific': { readonly data: { readonly bitmaps?: readonly StoredBitmap[] } };
}

interface StoredBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly flags: readonly string[];
}

/** qemu-img finds nothing wrong, and sees the model's content, bitmaps and snapshots. */
async function judge(
  t: ExecutionContext,
  { folder, image, model }: { folder: string; image: string; model: ModelImage },
): Promise<void> {
  const raw = join(folder, 'expected.raw');
  await writeFile(raw, model.disk.bytes);
  const bitmaps = [...model.bitmaps].slice(0, 2);
  const snapshots = [...model.snapshots];
  const output = (name: string): string => join(folder, `${name}.raw`);
  const [, , infoText = '', ...extents] = await runEach([
    ['qemu-img', 'check', image],
    ['qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, image],
    ['qemu-img', 'info', '--output=json', image],
    ...bitmaps.map(([name]) => qemuExtentsCommand(image, name)),
    ...snapshots.map(
      ([name]) =>
        [
          'qemu-img',
          'convert',
          '-l',
          `snapshot.name=${name}`,
          '-O',
          'raw',
          image,
          output(name),
        ] satisfies Command,
    ),
  ]);
  const info = JSON.parse(infoText) as QemuInfo;
  const found = info['format-specific'].data.bitmaps ?? [];
  const wanted = [...model.bitmaps].map(([name, { granularity, enabled }]) => ({
    flags: enabled ? ['auto'] : [],
    name,
    granularity,
  }));
  const byName = (a: { name: string }, b: { name: string }): number => a.name.localeCompare(b.name);
  t.deepEqual([...found].sort(byName), wanted.sort(byName));
  for (const [index, [name, bitmap]] of bitmaps.entries())
    t.deepEqual(parseQemuExtents(extents[index] ?? ''), bitmap.extents(model.disk.size), name);
  const names = (info.snapshots ?? []).map(({ name }) => name);
  t.deepEqual(names.sort(), [...model.snapshots.keys()].sort());
  for (const [name, { bytes }] of snapshots) {
    // qemu-img goes by the size that the disk has now.
    const length = Math.min(bytes.length, model.disk.size);
    const content = await readFile(output(name));
    t.true(content.subarray(0, length).equals(bytes.subarray(0, length)), `snapshot ${name}`);
    await rm(output(name));
  }
}

function sameBitmaps(t: ExecutionContext, node: Node, model: ModelImage): void {
  const found = [...(node.watch?.bitmaps.values() ?? [])];
  t.deepEqual(found.map(({ name }) => name).sort(), [...model.bitmaps.keys()].sort());
  for (const bitmap of found) {
    t.false(bitmap.inconsistent, bitmap.name);
    t.deepEqual(extentsOf(bitmap), model.bitmaps.get(bitmap.name)?.extents(model.disk.size), bitmap.name);
  }
}

async function sameSnapshots(
  t: ExecutionContext,
  { graph, node }: ImageWork,
  model: ModelImage,
): Promise<void> {
  if (model.snapshots.size === 0) return;
  const found = await contents(graph, node);
  for (const [name, { bytes }] of model.snapshots) t.true(found.get(name)?.equals(bytes), `snapshot ${name}`);
}

for (const given of combinations()) {
  const { version, cluster, refcountBits, kind } = given;
  test.serial(
    `version ${version}, clusters of ${cluster}, ${refcountBits}-bit refcounts, ${kind}`,
    agrees,
    given,
  );
}
