/**
 * Power cuts. Every write, discard and flush that reaches the files below a qcow2 image is recorded while a random
 * workload runs; then the cut is made at random places: what was flushed is there, of what came later any sectors are.
 * `qemu-img check` may find leaks and nothing else, and whatever a completed flush covered must read back.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { RecordedDisk, recordedDriver, Recorder } from './recorded-disk.ts';

/** What a worker did, in its order: bytes at a place; undefined bytes: any content may be there afterwards. */
interface Deed {
  readonly offset: number;
  readonly bytes: Buffer;
  /** Nothing can be said about what it left: a discard, or refused. */
  vague: boolean;
  /** Length of the record when it was begun. */
  readonly begun: number;
}

/** A completed flush: so many deeds of each worker were done when it was begun. */
interface Promised {
  readonly events: number;
  readonly done: readonly number[];
}

interface Workload {
  readonly size: number;
  readonly workers: number;
  readonly deeds: number;
  readonly stripe: number;
}

/** Workers that each own every n-th stripe of the disk: they share clusters and tables, never a byte. */
class Workers {
  readonly deeds: Deed[][] = [];
  readonly promises: Promised[] = [];
  private readonly done: number[] = [];
  private readonly disk: Child;
  private readonly recorder: Recorder;
  private readonly random: Random;
  private readonly load: Workload;

  constructor(parts: { disk: Child; recorder: Recorder; random: Random; load: Workload }) {
    this.disk = parts.disk;
    this.recorder = parts.recorder;
    this.random = parts.random;
    this.load = parts.load;
  }

  async run(): Promise<void> {
    const numbers = Array.from({ length: this.load.workers }, (_, index) => index);
    for (const worker of numbers) {
      this.deeds[worker] = [];
      this.done[worker] = 0;
    }
    await Promise.all(numbers.map((worker) => this.work(worker)));
  }

  private async work(worker: number): Promise<void> {
    for (let count = 0; count < this.load.deeds; count += 1) {
      if (this.random.chance(0.15)) await this.flush().catch(requireNoSpace);
      else await this.change(worker);
    }
  }

  private async flush(): Promise<void> {
    const done = [...this.done];
    await this.disk.flush();
    this.promises.push({ events: this.recorder.events.length, done });
  }

  private async change(worker: number): Promise<void> {
    const { stripe, workers, size } = this.load;
    const { random } = this;
    const stripes = Math.floor(size / stripe / workers);
    const offset = (random.below(stripes) * workers + worker) * stripe;
    const length = random.between(1, Math.min(stripe, size - offset));
    const way = random.below(10);
    const begun = this.recorder.events.length;
    const bytes = way < 7 ? random.bytes(length) : Buffer.alloc(length);
    const deed = { offset, bytes, vague: way === 9, begun };
    this.deeds[worker]?.push(deed);
    try {
      if (way < 7) await this.disk.write(bytes, offset);
      else if (way < 9) await this.disk.writeZeroes(offset, length, way === 7 ? ZeroFlag.mayUnmap : 0);
      else await this.disk.discard(offset, length);
    } catch (error) {
      requireNoSpace(error);
      deed.vague = true;
    }
    this.done[worker] = (this.done[worker] ?? 0) + 1;
  }
}

function requireNoSpace(error: unknown): void {
  if (!(error instanceof BlockError) || error.code !== 'ENOSPC') throw error;
}

/** First byte that is neither what was promised nor written later; -1 when all is well. */
function firstWrong(actual: Buffer, workers: Workers, start: Buffer, end: number): number {
  const promise = workers.promises.filter(({ events }) => events <= end).at(-1);
  const promised = Buffer.from(start);
  const fine = Buffer.alloc(actual.length);
  const later: Deed[] = [];
  for (const [worker, deeds] of workers.deeds.entries()) {
    const durable = promise?.done[worker] ?? 0;
    for (const [index, deed] of deeds.entries()) {
      if (index < durable && !deed.vague) deed.bytes.copy(promised, deed.offset);
      else if (deed.begun <= end) later.push(deed);
    }
  }
  for (const deed of later) {
    for (let at = 0; at < deed.bytes.length; at += 1) {
      if (actual[deed.offset + at] === deed.bytes[at]) fine[deed.offset + at] = 1;
    }
  }
  for (let at = 0; at < actual.length; at += 1) if (fine[at] === 0 && actual[at] !== promised[at]) return at;
  return -1;
}

interface Case {
  readonly options: string;
  readonly size: number;
  readonly stripe: number;
  /** The image holds data from the start: compressed with `-c`. */
  readonly filled?: readonly string[];
  readonly snapshot?: boolean;
  readonly nodeOptions?: Readonly<Record<string, unknown>>;
  /** Share of the writes and flushes below that fail with ENOSPC. */
  readonly failing?: number;
}

async function makeImage(
  folder: string,
  spec: Case,
  random: Random,
): Promise<{ image: string; start: Buffer }> {
  const image = join(folder, 'image.qcow2');
  const start = Buffer.alloc(spec.size);
  const options = spec.options.replace('DATA', join(folder, 'data.raw'));
  if (spec.filled === undefined) {
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, `${spec.size}`]);
  } else {
    random.softBytes(spec.size).copy(start);
    const raw = join(folder, 'content.raw');
    await writeFile(raw, start);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', options, ...spec.filled, raw, image]);
  }
  if (spec.snapshot === true) await run('qemu-img', ['snapshot', '-c', 'before', image]);
  return { image, start };
}

const survives = test.macro(async (t: ExecutionContext, spec: Case) => {
  if (!canRun(t, 'qemu-img')) return;
  for (let round = 0; round < rounds(1, 20); round += 1) {
    const start = seed(spec.size + spec.stripe) + round;
    await survivesOnce(t, spec, new Random(start)).catch((error: unknown) => {
      throw new Error(`BLOCKFUSE_SEED=${start}: ${String(error)}`, { cause: error });
    });
  }
  t.pass();
});

async function survivesOnce(t: ExecutionContext, spec: Case, random: Random): Promise<void> {
  const folder = await tempDir(t);
  const { image, start } = await makeImage(folder, spec, random);
  const recorder = new Recorder();
  const hasData = spec.options.includes('DATA');
  const file = new RecordedDisk(recorder, await readFile(image), random);
  const data = new RecordedDisk(
    recorder,
    hasData ? await readFile(join(folder, 'data.raw')) : Buffer.alloc(0),
    random,
  );
  const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file, data })] });
  const node = await graph.open({
    driver: 'qcow2',
    discard: 'unmap',
    'pass-discard-other': true,
    file: { driver: 'recorded-image', 'node-name': 'file' },
    ...(hasData ? { 'data-file': { driver: 'recorded-image', 'node-name': 'data' } } : {}),
    ...spec.nodeOptions,
  });
  const disk = graph.attachRoot(node, { name: 'test', used: 15 });
  const load = { size: spec.size, workers: 4, deeds: 40, stripe: spec.stripe };
  const workers = new Workers({ disk, recorder, random, load });
  recorder.failing = spec.failing ?? 0;
  await workers.run();
  recorder.failing = 0;
  await graph.close();
  const cuts = rounds(25, 100);
  for (let cut = 0; cut < cuts; cut += 1) {
    const end = cut === 0 ? recorder.events.length : random.below(recorder.events.length + 1);
    await writeFile(image, recorder.afterCut(0, end, random));
    if (hasData) await writeFile(join(folder, 'data.raw'), recorder.afterCut(1, end, random));
    const wrong = await judge(
      { image, size: spec.size, lazy: spec.options.includes('lazy'), final: cut === 0 },
      (actual) => firstWrong(actual, workers, start, end),
    );
    if (wrong !== undefined)
      throw new Error(`cut behind event ${end} of ${recorder.events.length}: ${wrong}`);
  }
}

async function judge(
  cut: { image: string; size: number; lazy: boolean; final: boolean },
  find: (actual: Buffer) => number,
): Promise<string | undefined> {
  const { image } = cut;
  if (cut.lazy && !cut.final) await attempt('qemu-img', ['check', '-r', 'all', image]);
  const check = await attempt('qemu-img', ['check', image]);
  const good = cut.final ? check.code === 0 : check.code === 0 || check.code === 3;
  if (!good) return `qemu-img check: exit code ${check.code}\n${check.stdout}${check.stderr}`;
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const node = await graph.openImage(image, 'qcow2', { 'read-only': true });
    const disk = graph.attachRoot(node, { name: 'judge', used: 1 });
    const actual = Buffer.alloc(cut.size);
    await disk.read(actual, 0);
    const at = find(actual);
    return at < 0 ? undefined : `byte ${at} is lost`;
  } finally {
    await graph.close();
  }
}

const MIB = 1024 * 1024;
const small = { 'l2-cache-size': 4096, 'refcount-cache-size': 4096, 'l2-cache-entry-size': 512 };

test.serial('64k clusters', survives, { options: 'cluster_size=64k', size: 4 * MIB, stripe: 40_000 });
test.serial('512-byte clusters, the refcount table moves', survives, {
  options: 'cluster_size=512,refcount_bits=64',
  size: 2 * MIB,
  stripe: 20_000,
  nodeOptions: small,
});
test.serial('4k clusters, 1-bit refcounts', survives, {
  options: 'cluster_size=4k,refcount_bits=1',
  size: 2 * MIB,
  stripe: 7000,
});
test.serial('shared with a snapshot', survives, {
  options: 'cluster_size=4k',
  size: 2 * MIB,
  stripe: 7000,
  filled: [],
  snapshot: true,
});
test.serial('compressed', survives, {
  options: 'cluster_size=4k',
  size: 2 * MIB,
  stripe: 7000,
  filled: ['-c'],
});
test.serial('extended L2', survives, {
  options: 'cluster_size=16k,extended_l2=on',
  size: 2 * MIB,
  stripe: 7000,
});
test.serial('lazy refcounts', survives, {
  options: 'cluster_size=4k,lazy_refcounts=on',
  size: 2 * MIB,
  stripe: 7000,
});
test.serial('no space now and then', survives, {
  options: 'cluster_size=4k,refcount_bits=64',
  size: 2 * MIB,
  stripe: 7000,
  filled: [],
  snapshot: true,
  failing: 0.1,
});
test.serial('no space now and then, 512-byte clusters', survives, {
  options: 'cluster_size=512,refcount_bits=64',
  size: 2 * MIB,
  stripe: 20_000,
  nodeOptions: small,
  failing: 0.04,
});
test.serial('external data file', survives, {
  options: 'cluster_size=4k,data_file=DATA',
  size: 2 * MIB,
  stripe: 7000,
});
