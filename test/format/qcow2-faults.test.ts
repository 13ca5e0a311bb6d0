/**
 * The n-th write, flush or allocation of the image file fails, once or from then on, with EIO or ENOSPC: the failure is
 * told, what was answered is there, qemu-img check finds no corruption, and no leak either once the disk works again.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import type { Node } from '../../src/block/node.ts';
import { isSoak, Random } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { changeOf, contents, deed, execute, flush, resize, snapshot, write } from './disk-deeds.ts';
import type { Deed } from './disk-deeds.ts';
import { FaultyDisk, faultyDriver, Faults } from './faulty-disk.ts';
import type { Fault } from './faulty-disk.ts';
import { after, whatIsWrong } from './possible-disks.ts';
import type { Possible } from './possible-disks.ts';

interface Scenario {
  readonly options: string;
  readonly size: number;
  /** The image, or with `backing` what is below it, holds data from the start. */
  readonly filled?: boolean;
  readonly backing?: boolean;
  readonly deeds: readonly Deed[];
}

const KIB = 1024;
const LAST = 60;
const KINDS = ['write', 'flush', 'allocation'] as const;

interface Start {
  readonly folder: string;
  readonly image: string;
  readonly bytes: Buffer;
  readonly data: Buffer | undefined;
  readonly content: Buffer;
}

async function makeStart(t: ExecutionContext, scenario: Scenario): Promise<Start> {
  const { size, filled = false, backing = false } = scenario;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const options = scenario.options.replace('DATA', join(folder, 'data.raw'));
  const content = filled || backing ? new Random(size).softBytes(size) : Buffer.alloc(size);
  const raw = join(folder, 'content.raw');
  await writeFile(raw, content);
  if (filled) await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, image]);
  else {
    const below = backing ? ['-b', raw, '-F', 'raw'] : [];
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, ...below, image, `${size}`]);
  }
  const data = options.includes('data.raw') ? await readFile(join(folder, 'data.raw')) : undefined;
  return { folder, image, bytes: await readFile(image), data, content };
}

/** One run of a scenario with one fault. */
class Attempt {
  private readonly start: Start;
  private readonly faults: Faults;
  private readonly file: FaultyDisk;
  private readonly data: FaultyDisk;
  private readonly random = new Random(7);
  private possible: readonly Possible[] = [{ disk: [], snapshots: new Map() }];
  /** What may be there after the last flush that was answered, and what came since. */
  private durable: readonly Possible[] = this.possible;
  errors: unknown[] = [];
  closeFailed = false;

  constructor(start: Start, fault: Fault | undefined) {
    this.start = start;
    this.faults = new Faults(fault);
    this.file = new FaultyDisk(start.bytes, this.faults);
    this.data = new FaultyDisk(start.data ?? Buffer.alloc(0), this.faults);
  }

  get fired(): number {
    return this.faults.fired;
  }

  async run(deeds: readonly Deed[]): Promise<void> {
    const { file, data } = this;
    const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file, data })] });
    const node = await graph.open(this.options);
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    for (const deed of deeds) await this.perform(graph, node, disk, deed);
    await this.verifyOpen(graph, node);
    await graph.close().catch((error: unknown) => {
      this.closeFailed = true;
      this.errors.push(error);
    });
    if (this.closeFailed) this.possible = this.durable;
  }

  /** What is on the disks now, judged: undefined when all is well. */
  async judge(byQemu: boolean): Promise<string | undefined> {
    const file = new FaultyDisk(this.file.content(), new Faults());
    const data = new FaultyDisk(this.data.content(), new Faults());
    const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file, data })] });
    try {
      const node = await graph.open({ ...this.options, 'x-repair': true });
      const isDirty = node.impl.family === 'mapping' && (await node.impl.info?.())?.dirty === true;
      if (isDirty) await node.driver.check?.(node.impl, { repair: 'all' });
      const found = await node.driver.check?.(node.impl, { repair: 'none' });
      if (found === undefined) return 'it can not be checked';
      const { corruptions, leaks, checkErrors, messages } = found;
      if (corruptions + checkErrors > 0 || (leaks > 0 && !this.mayLeak)) return messages.join('\n');
      const wrong = whatIsWrong(this.start.content, await contents(graph, node), this.possible);
      return wrong ?? (byQemu ? await this.judgeByQemu(isDirty) : undefined);
    } finally {
      await graph.close();
    }
  }

  private async judgeByQemu(isDirty: boolean): Promise<string | undefined> {
    const { image, folder } = this.start;
    await writeFile(image, this.file.content());
    if (this.start.data !== undefined) await writeFile(join(folder, 'data.raw'), this.data.content());
    if (isDirty) await attempt('qemu-img', ['check', '-r', 'all', image]);
    const check = await attempt('qemu-img', ['check', image]);
    if (check.code === 0 || (this.mayLeak && check.code === 3)) return undefined;
    return `qemu-img check: exit code ${check.code}\n${check.stdout}${check.stderr}`;
  }

  private get options(): Record<string, unknown> {
    return {
      driver: 'qcow2',
      discard: 'unmap',
      file: { driver: 'faulty-image', 'node-name': 'file' },
      ...(this.start.data === undefined
        ? {}
        : { 'data-file': { driver: 'faulty-image', 'node-name': 'data' } }),
    };
  }

  private get mayLeak(): boolean {
    return this.closeFailed || this.isBroken;
  }

  /** An error after which the driver refuses to go on. */
  private get isBroken(): boolean {
    return this.errors.some((error) => error instanceof BlockError && /may name either/.test(error.message));
  }

  private async verifyOpen(graph: Graph, node: Node): Promise<void> {
    const wrong = whatIsWrong(this.start.content, await contents(graph, node), this.possible);
    if (wrong !== undefined) throw new Error(`while open: ${wrong}`);
  }

  // eslint-disable-next-line max-params
  private async perform(graph: Graph, node: Node, disk: Child, deed: Deed): Promise<void> {
    const change = changeOf(deed, this.random);
    let done = true;
    try {
      await execute({ graph, node, disk }, deed, change);
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      this.errors.push(error);
      done = false;
    }
    if (change === undefined) {
      if (done) this.durable = this.possible;
      return;
    }
    this.possible = after(this.possible, change, done);
    if (change.what !== 'bytes' && done) this.durable = this.possible;
    else this.durable = after(this.durable, change, false);
  }
}

/** All of the matrix in a soak; else every third place, with what fails there taking turns. */
function* faults(): Generator<Fault, void> {
  for (const kind of KINDS) {
    for (let number = 1; number <= LAST; number += 1) {
      for (const [way, code] of (['EIO', 'ENOSPC', 'EIO', 'ENOSPC'] as const).entries()) {
        if (isSoak() || (number % 3 === 1 && number % 4 === way))
          yield { kind, number, code, lasting: way >= 2 };
      }
    }
  }
}

const survives = test.macro(async (t: ExecutionContext, scenario: Scenario) => {
  if (!canRun(t, 'qemu-img')) return;
  const start = await makeStart(t, scenario);
  const counted = new Map<string, number>();
  let judged = 0;
  for (const fault of faults()) {
    if ((counted.get(fault.kind) ?? LAST) < fault.number) continue;
    const tried = new Attempt(start, fault);
    try {
      await tried.run(scenario.deeds);
      const wrong = await tried.judge(isSoak() || judged % 8 === 0);
      if (wrong !== undefined) throw new Error(wrong);
      if (tried.fired > 0 && tried.errors.length === 0) throw new Error('nobody was told');
    } catch (error) {
      const about = `${fault.lasting ? 'from' : 'only'} ${fault.kind} ${fault.number} on ${fault.code}`;
      throw new Error(`${about}: ${String(error)}; told: ${tried.errors.map(String).join('; ')}`);
    }
    judged += 1;
    if (tried.fired === 0 && fault.number <= (counted.get(fault.kind) ?? LAST))
      counted.set(fault.kind, fault.number - 1);
  }
  t.log(Object.fromEntries(counted));
  t.pass();
});

/** Each write has a table or two of its own. */
const scattered = (step: number, count: number, length: number): Deed[] =>
  Array.from({ length: count }, (_, index) =>
    index % 4 === 3 ? [write(index * step + 1, length), flush] : [write(index * step + 1, length)],
  ).flat();

test.serial('writes with allocation', survives, {
  options: 'cluster_size=512,refcount_bits=64',
  size: 512 * KIB,
  deeds: [...scattered(20, 24, 3), flush],
});
test.serial('copy on write over a backing file', survives, {
  options: 'cluster_size=512',
  size: 512 * KIB,
  backing: true,
  deeds: [...scattered(20, 24, 5), deed('zero', 5, 11), deed('unmap', 300, 40), flush, write(2, 3)],
});
test.serial('discards and zeroes', survives, {
  options: 'cluster_size=512',
  size: 512 * KIB,
  filled: true,
  deeds: [
    deed('discard', 10, 100),
    write(12, 3),
    flush,
    deed('zero', 100, 33),
    deed('unmap', 131, 55),
    flush,
    write(100, 60),
    deed('discard', 0, 200),
    flush,
    write(3, 150),
  ],
});
test.serial('snapshots', survives, {
  options: 'cluster_size=4k',
  size: 512 * KIB,
  filled: true,
  deeds: [
    snapshot('create', 'one'),
    write(10, 30),
    deed('discard', 100, 100),
    flush,
    snapshot('create', 'two'),
    write(1, 200),
    snapshot('apply', 'one'),
    write(20, 4),
    snapshot('delete', 'one'),
    write(300, 20),
    flush,
    snapshot('delete', 'two'),
    write(5, 5),
  ],
});
test.serial('resizing', survives, {
  options: 'cluster_size=512',
  size: 512 * KIB,
  filled: true,
  deeds: [
    resize(1500),
    write(1490, 10),
    flush,
    resize(700),
    write(650, 40),
    resize(2000),
    write(1900, 3),
    flush,
    resize(100),
    write(1, 50),
  ],
});
test.serial('resizing over a backing file', survives, {
  options: 'cluster_size=4k',
  size: 1024 * KIB,
  backing: true,
  deeds: [resize(333), write(1, 30), resize(2000), write(1500, 20), flush, resize(50), resize(900)],
});
test.serial('compressed writes', survives, {
  options: 'cluster_size=4k',
  size: 512 * KIB,
  filled: true,
  deeds: [
    ...Array.from({ length: 24 }, (_, index) => [
      deed('compress', index * 12, 4),
      ...(index % 5 === 4 ? [flush] : []),
    ]).flat(),
    write(2, 40),
    deed('discard', 100, 30),
    flush,
    deed('compress', 200, 4),
  ],
});
test.serial('extended L2', survives, {
  options: 'cluster_size=16k,extended_l2=on',
  size: 1024 * KIB,
  filled: true,
  deeds: [
    deed('discard', 16, 100),
    write(17, 3),
    flush,
    write(90, 30),
    deed('unmap', 200, 41),
    deed('zero', 301, 7),
    flush,
    write(202, 5),
    snapshot('create', 'one'),
    write(1, 500),
    flush,
  ],
});
test.serial('an external data file', survives, {
  options: 'cluster_size=512,data_file=DATA',
  size: 512 * KIB,
  deeds: [...scattered(20, 20, 5), deed('discard', 0, 60), write(10, 8), flush, resize(600), write(590, 5)],
});
test.serial('lazy refcounts', survives, {
  options: 'cluster_size=512,lazy_refcounts=on',
  size: 512 * KIB,
  deeds: [...scattered(20, 24, 3), deed('discard', 0, 100), flush, write(3, 40)],
});
