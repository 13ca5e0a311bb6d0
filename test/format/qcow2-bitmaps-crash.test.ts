/**
 * Power cuts while bitmaps are added, changed, stored and removed: the image is sound but for leaks, a bitmap that is not marked
 * as in use has everything that was written, and one that notes nothing is as it was.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import type { Node } from '../../src/block/node.ts';
import { runActions } from '../../src/control/actions/action.ts';
import {
  addBitmap,
  clearBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../src/control/actions/bitmap.ts';
import { CommandError } from '../../src/control/command.ts';
import { extentsOf } from '../helpers/dirty-extents.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { RecordedDisk, recordedDriver, Recorder } from './recorded-disk.ts';

const SIZE = 2 * 1024 * 1024;
const NODE = 'disk';

interface Case {
  readonly options: string;
  /** The image has bitmaps from the start: `base` notes everything, `off` nothing. */
  readonly bitmaps?: boolean;
  /** With a backing file, whose name stands behind the header. */
  readonly backing?: boolean;
  /** Share of the writes and flushes below that fail with ENOSPC. */
  readonly failing?: number;
}

async function makeImage(folder: string, spec: Case): Promise<string> {
  const image = join(folder, 'image.qcow2');
  await writeFile(join(folder, 'base.raw'), Buffer.alloc(SIZE, 3));
  const below = spec.backing === true ? ['-b', 'base.raw', '-F', 'raw'] : [];
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', spec.options, ...below, image, `${SIZE}`]);
  if (spec.bitmaps !== true) return image;
  await run('qemu-img', ['bitmap', '--add', '-g', '4k', image, 'base']);
  await run('qemu-img', ['bitmap', '--add', '-g', '4k', image, 'temporary']);
  await run('qemu-io', ['-c', 'write -P 9 64k 64k', image]);
  await run('qemu-img', ['bitmap', '--add', '--disable', '-g', '4k', image, 'off']);
  await run('qemu-img', ['bitmap', '--merge', 'temporary', image, 'off']);
  await run('qemu-img', ['bitmap', '--remove', image, 'temporary']);
  return image;
}

async function content(image: string): Promise<{ bytes: Buffer; node: Node; graph: Graph }> {
  const graph = new Graph({ drivers: DRIVERS });
  const node = await graph.openImage(image, 'qcow2', { 'read-only': true });
  const disk = graph.attachRoot(node, { name: 'judge', used: 1 });
  const bytes = Buffer.alloc(SIZE);
  await disk.read(bytes, 0);
  return { bytes, node, graph };
}

function requireNoSpace(error: unknown): void {
  let cause: unknown = error;
  while (cause instanceof BlockError && cause.cause !== undefined) cause = cause.cause;
  if (cause instanceof CommandError || (cause instanceof BlockError && cause.code === 'ENOSPC')) return;
  throw error;
}

/** Opens, works and closes again and again. */
async function work(file: RecordedDisk, recorder: Recorder, random: Random, spec: Case): Promise<void> {
  for (let session = 0; session < 4; session += 1) {
    const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
    recorder.failing = 0;
    const node = await graph.open({
      driver: 'qcow2',
      'node-name': NODE,
      discard: 'unmap',
      file: { driver: 'recorded-image', 'node-name': 'file' },
      ...(spec.backing === true ? { backing: { driver: 'null-co', size: SIZE, 'read-zeroes': true } } : {}),
    });
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    recorder.failing = spec.failing ?? 0;
    for (let step = 0; step < 12; step += 1) {
      const bytes = random.bytes(random.between(1, 30_000));
      await disk.write(bytes, random.below(SIZE - bytes.length)).catch(requireNoSpace);
      await alter(graph, node, random).catch(requireNoSpace);
      if (random.chance(0.2)) await disk.flush().catch(requireNoSpace);
    }
    await graph.close().catch(requireNoSpace);
  }
  recorder.failing = 0;
}

async function alter(graph: Graph, node: Node, random: Random): Promise<void> {
  const names = [...(node.watch?.bitmaps.keys() ?? [])].filter((name) => /^t\d/.test(name));
  const name = names.length === 0 ? '' : random.pick(names);
  const given = { node: NODE, name };
  const kind = random.below(6);
  if (kind === 0 || names.length === 0) {
    const fresh = {
      node: NODE,
      name: `t${random.below(100)}`,
      persistent: true,
      disabled: random.chance(0.5),
    };
    await runActions(graph, [addBitmap(graph, { ...fresh, granularity: 2 ** random.between(9, 14) })]);
  } else if (kind === 1) await runActions(graph, [removeBitmap(graph, given)]);
  else if (kind === 2) await runActions(graph, [clearBitmap(graph, given)]);
  else if (kind === 3) await runActions(graph, [enableBitmap(graph, given, random.chance(0.5))]);
  else {
    const bitmaps = [random.pick(names)];
    await runActions(graph, [mergeBitmaps(graph, { node: NODE, target: name, bitmaps })]);
  }
}

interface Info {
  readonly 'backing-filename'?: string;
  readonly 'format-specific': { data: { bitmaps?: { name: string; flags: string[] }[] } };
}

/** What is wrong with the image after a cut; undefined when nothing is. */
async function judge(image: string, spec: Case, start: Buffer, final: boolean): Promise<string | undefined> {
  if (spec.options.includes('lazy') && !final) await attempt('qemu-img', ['check', '-r', 'all', image]);
  const check = await attempt('qemu-img', ['check', image]);
  const leaky = !final || spec.failing !== undefined;
  if (check.code !== 0 && !(leaky && check.code === 3))
    return `qemu-img check: ${check.stdout}${check.stderr}`;
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as Info;
  if (spec.backing === true && info['backing-filename'] !== 'base.raw')
    return 'the backing file name is lost';
  const { bytes, node, graph } = await content(image);
  try {
    const found = [...(node.watch?.bitmaps.values() ?? [])];
    const seen = new Map(
      (info['format-specific'].data.bitmaps ?? []).map(({ name, flags }) => [name, flags]),
    );
    // One that the header does not vouch for any more is not even listed by QEMU.
    for (const { name, inconsistent } of found)
      if ((seen.get(name)?.includes('in-use') ?? true) !== inconsistent)
        return `QEMU sees bitmap ${name} otherwise`;
    if (spec.bitmaps !== true) return undefined;
    const off = found.find(({ name }) => name === 'off');
    if (off === undefined || off.inconsistent) return 'the bitmap that notes nothing is lost';
    if (JSON.stringify(extentsOf(off)) !== '[[65536,65536]]')
      return 'the bitmap that notes nothing has changed';
    const base = found.find(({ name }) => name === 'base');
    if (base === undefined) return 'the bitmap is gone';
    if (final && spec.failing === undefined && base.inconsistent) return 'it was closed, but is inconsistent';
    if (base.inconsistent) return undefined;
    for (let at = 0; at < SIZE; at += 4096)
      if (!base.isDirty(at) && !bytes.subarray(at, at + 4096).equals(start.subarray(at, at + 4096)))
        return `block ${at} was written, but is not dirty`;
    return undefined;
  } finally {
    await graph.close();
  }
}

const survives = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  for (let round = 0; round < rounds(1, 20); round += 1) {
    const number = seed(spec.options.length) + round;
    const random = new Random(number);
    const folder = await tempDir(t);
    const image = await makeImage(folder, spec);
    const before = await content(image);
    await before.graph.close();
    const recorder = new Recorder();
    const file = new RecordedDisk(recorder, await readFile(image), random);
    await work(file, recorder, random, spec);
    for (let cut = 0; cut < rounds(30, 100); cut += 1) {
      const all = recorder.events.length;
      const end = cut === 0 ? all : random.below(all + 1);
      await writeFile(image, recorder.afterCut(0, end, random));
      const wrong = await judge(image, spec, before.bytes, cut === 0);
      if (wrong !== undefined) throw new Error(`BLOCKFUSE_SEED=${number}, cut at ${end} of ${all}: ${wrong}`);
    }
  }
  t.pass();
});

test.serial('4k clusters, bitmaps from the start', survives, { options: 'cluster_size=4k', bitmaps: true });
test.serial('64k clusters, bitmaps from the start', survives, { options: 'cluster_size=64k', bitmaps: true });
test.serial('512-byte clusters', survives, { options: 'cluster_size=512,refcount_bits=1' });
test.serial('the first bitmap moves the name of the backing file', survives, {
  options: 'cluster_size=4k',
  backing: true,
});
test.serial('lazy refcounts', survives, { options: 'cluster_size=4k,lazy_refcounts=on', bitmaps: true });
test.serial('no space now and then', survives, {
  options: 'cluster_size=4k,refcount_bits=64',
  bitmaps: true,
  failing: 0.02,
});
