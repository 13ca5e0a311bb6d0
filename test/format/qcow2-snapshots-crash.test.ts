/**
 * Power cuts and full disks while snapshots are taken, applied and deleted. Each of these happens wholly or not at all:
 * after a cut at any place `qemu-img check` finds leaks at most, and the disk and every snapshot hold what they held before
 * the step that was cut, or what they held after it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { changeSnapshots, snapshotsOf } from '../../src/block/internal-snapshots.ts';
import { exercise } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { RecordedDisk, recordedDriver, Recorder } from './recorded-disk.ts';

interface Case {
  readonly options: string;
  readonly cluster: number;
  readonly size: number;
  readonly compressed?: boolean;
  /** Share of the writes and flushes below that fail with ENOSPC. */
  readonly failing?: number;
}

/** What an image holds: the disk under '', snapshots by name. */
type State = ReadonlyMap<string, Buffer>;

/** One step: what holds before its first event and after its last. */
interface Step {
  readonly what: string;
  readonly from: number;
  readonly to: number;
  readonly before: State;
  readonly after: State;
}

const STEPS = 8;

const survives = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  for (let round = 0; round < rounds(1, 20); round += 1) {
    const start = seed(spec.size + spec.cluster) + round;
    await survivesOnce(t, spec, new Random(start)).catch((error: unknown) => {
      throw new Error(`BLOCKFUSE_SEED=${start}: ${String(error)}`, { cause: error });
    });
  }
  t.pass();
});

async function makeImage(folder: string, spec: Case, random: Random): Promise<ModelDisk> {
  const model = new ModelDisk(spec.size);
  const image = join(folder, 'image.qcow2');
  const raw = join(folder, 'start.raw');
  random.softBytes(spec.size).copy(model.bytes);
  await writeFile(raw, model.bytes);
  const compress = spec.compressed === true ? ['-c'] : [];
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...compress, '-o', spec.options, raw, image]);
  return model;
}

async function survivesOnce(t: ExecutionContext, spec: Case, random: Random): Promise<void> {
  const folder = await tempDir(t);
  const model = await makeImage(folder, spec, random);
  const image = join(folder, 'image.qcow2');
  const recorder = new Recorder();
  const file = new RecordedDisk(recorder, await readFile(image), random);
  const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
  const node = await graph.open({
    driver: 'qcow2',
    discard: 'unmap',
    'pass-discard-other': true,
    file: { driver: 'recorded-image', 'node-name': 'file' },
  });
  const root = graph.attachRoot(node, { name: 'test', used: 15 });
  const steps: Step[] = [];
  const snapshots = new Map<string, Buffer>();
  try {
    for (let number = 0; number < STEPS; number += 1) {
      const work = { random, operations: 20, concurrency: 4, maxLength: 30_000, borders: [spec.cluster] };
      await exercise(childDisk(root, random), model, work);
      await root.flush();
      const before = new Map([['', Buffer.from(model.bytes)], ...snapshots]);
      const from = recorder.events.length;
      recorder.failing = spec.failing ?? 0;
      const change = choose(number, snapshots, model, random);
      const step = { what: change.what, from, before, after: change.after };
      try {
        await changeSnapshots(graph, node, change.run);
      } catch (error) {
        requireNoSpace(error);
        recorder.failing = 0;
        await graph.close().catch(() => undefined);
        steps.push({ ...step, to: recorder.events.length });
        break;
      } finally {
        recorder.failing = 0;
      }
      steps.push({ ...step, to: recorder.events.length });
      snapshots.clear();
      for (const [name, bytes] of change.after) {
        if (name === '') model.bytes = Buffer.from(bytes);
        else snapshots.set(name, bytes);
      }
    }
  } finally {
    await graph.close().catch(() => undefined);
  }
  for (let cut = 0; cut < rounds(25, 100); cut += 1) {
    const step = cut === 0 ? steps.at(-1) : random.pick(steps);
    if (step === undefined) return;
    const end = cut === 0 ? step.to : random.between(step.from, step.to);
    await writeFile(image, recorder.afterCut(0, end, random));
    const wrong = await judge(image, step);
    if (wrong !== undefined)
      throw new Error(
        `${step.what}, cut behind event ${end - step.from} of ${step.to - step.from}: ${wrong}`,
      );
  }
}

function requireNoSpace(error: unknown): void {
  const cause = error instanceof BlockError && error.cause instanceof BlockError ? error.cause : error;
  if (!(cause instanceof BlockError) || cause.code !== 'ENOSPC') throw error;
}

interface Change {
  readonly what: string;
  readonly after: State;
  readonly run: Parameters<typeof changeSnapshots>[2];
}

function choose(
  number: number,
  snapshots: ReadonlyMap<string, Buffer>,
  model: ModelDisk,
  random: Random,
): Change {
  const after = new Map([['', Buffer.from(model.bytes)], ...snapshots]);
  const names = [...snapshots.keys()];
  const way = random.below(3);
  if (way === 0 || names.length === 0) {
    const name = `s${number}`;
    after.set(name, Buffer.from(model.bytes));
    return { what: `create ${name}`, after, run: (list) => list.create(name) };
  }
  const name = random.pick(names);
  if (way === 1) {
    after.set('', snapshots.get(name) ?? Buffer.alloc(0));
    return { what: `apply ${name}`, after, run: (list) => list.apply(name) };
  }
  after.delete(name);
  return { what: `delete ${name}`, after, run: (list) => list.delete(name) };
}

async function judge(image: string, step: Step): Promise<string | undefined> {
  const check = await attempt('qemu-img', ['check', image]);
  if (check.code !== 0 && check.code !== 3)
    return `qemu-img check: exit code ${check.code}\n${check.stdout}${check.stderr}`;
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const node = await graph.openImage(image, 'qcow2', { 'read-only': true });
    const names = snapshotsOf(node)
      .list()
      .map(({ name }) => name);
    const contents = new Map<string, Buffer>();
    for (const name of ['', ...names]) {
      const shown =
        name === '' ? node : await graph.open({ driver: 'snapshot-access', file: node.name, snapshot: name });
      const disk = graph.attachRoot(shown, { name: `judge of ${name}`, used: 1 });
      const bytes = Buffer.alloc(disk.size);
      await disk.read(bytes, 0);
      contents.set(name, bytes);
    }
    if (isSame(contents, step.before) || isSame(contents, step.after)) return undefined;
    return `it holds neither what it held before nor what it should hold after; snapshots: ${names.join(', ')}`;
  } finally {
    await graph.close();
  }
}

function isSame(one: State, other: State): boolean {
  if (one.size !== other.size) return false;
  return [...one].every(([name, bytes]) => other.get(name)?.equals(bytes) === true);
}

const MIB = 1024 * 1024;

test.serial('64k clusters', survives, { options: 'cluster_size=64k', cluster: 65536, size: 3 * MIB });
test.serial('512-byte clusters, 64-bit refcounts', survives, {
  options: 'cluster_size=512,refcount_bits=64',
  cluster: 512,
  size: MIB / 2,
});
test.serial('4k clusters, version 2, compressed', survives, {
  options: 'cluster_size=4k,compat=0.10',
  cluster: 4096,
  size: MIB,
  compressed: true,
});
test.serial('extended L2', survives, {
  options: 'cluster_size=16k,extended_l2=on',
  cluster: 16384,
  size: 2 * MIB,
});
test.serial('no space now and then', survives, {
  options: 'cluster_size=4k',
  cluster: 4096,
  size: MIB,
  failing: 0.05,
});
test.serial('no space now and then, 512-byte clusters', survives, {
  options: 'cluster_size=512',
  cluster: 512,
  size: MIB / 2,
  failing: 0.01,
});
