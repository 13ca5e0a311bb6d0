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
import { qemuImgWithNewKey } from '../helpers/qemu-key.ts';
import { isSoak, Random } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { changeOf, contents, execute, missedByBitmaps } from './disk-deeds.ts';
import type { Deed } from './disk-deeds.ts';
import { SCENARIOS } from './fault-scenarios.ts';
import type { Scenario } from './fault-scenarios.ts';
import { FaultyDisk, faultyDriver, Faults } from './faulty-disk.ts';
import type { Fault } from './faulty-disk.ts';
import { after, whatIsWrong } from './possible-disks.ts';
import type { Possible } from './possible-disks.ts';

const LAST = 60;
const KEY = 'tested';
const SECRET = ['--object', `secret,id=key,data=${KEY}`];
const KINDS = ['write', 'flush', 'allocation'] as const;

interface Start {
  readonly folder: string;
  readonly image: string;
  readonly bytes: Buffer;
  readonly data: Buffer | undefined;
  readonly content: Buffer;
  readonly isEncrypted: boolean;
}

async function makeStart(t: ExecutionContext, scenario: Scenario): Promise<Start> {
  const { size, filled = false, backing = false, granularity } = scenario;
  const folder = await tempDir(t);
  const image = join(folder, 'image.qcow2');
  const options = scenario.options.replace('DATA', join(folder, 'data.raw'));
  const content = filled || backing ? new Random(size).softBytes(size) : Buffer.alloc(size);
  const raw = join(folder, 'content.raw');
  await writeFile(raw, content);
  if (filled) await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, image]);
  else {
    const below = backing ? ['-b', raw, '-F', 'raw'] : [];
    await qemuImgWithNewKey(['create', '-f', 'qcow2', '-o', options, ...SECRET, ...below, image, `${size}`]);
  }
  if (granularity !== undefined)
    await run('qemu-img', ['bitmap', '--add', '-g', `${granularity}`, image, 'first']);
  const data = options.includes('data.raw') ? await readFile(join(folder, 'data.raw')) : undefined;
  const isEncrypted = options.includes('encrypt');
  return { folder, image, bytes: await readFile(image), data, content, isEncrypted };
}

function graphOver(disks: Readonly<Record<string, FaultyDisk>>): Graph {
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver(disks)] });
  graph.secrets.add('key', Buffer.from(KEY));
  return graph;
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
    const graph = graphOver({ file, data });
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
    const graph = graphOver({ file, data });
    try {
      const node = await graph.open({ ...this.options, 'x-repair': true });
      const isDirty = node.impl.family === 'mapping' && (await node.impl.info?.())?.dirty === true;
      if (isDirty) await node.driver.check?.(node.impl, { repair: 'all' });
      const found = await node.driver.check?.(node.impl, { repair: 'none' });
      if (found === undefined) return 'it can not be checked';
      const { corruptions, leaks, checkErrors, messages } = found;
      if (corruptions + checkErrors > 0 || (leaks > 0 && !this.mayLeak)) return messages.join('\n');
      const wrong = await this.wrongIn(graph, node);
      return wrong ?? (byQemu ? await this.judgeByQemu(isDirty) : undefined);
    } finally {
      await graph.close();
    }
  }

  private async judgeByQemu(isDirty: boolean): Promise<string | undefined> {
    const { image, folder } = this.start;
    await writeFile(image, this.file.content());
    if (this.start.data !== undefined) await writeFile(join(folder, 'data.raw'), this.data.content());
    const opened = this.start.isEncrypted
      ? [...SECRET, '--image-opts', `driver=qcow2,encrypt.key-secret=key,file.filename=${image}`]
      : [image];
    if (isDirty) await attempt('qemu-img', ['check', '-r', 'all', ...opened]);
    const check = await attempt('qemu-img', ['check', ...opened]);
    if (check.code === 0 || (this.mayLeak && check.code === 3)) return undefined;
    return `qemu-img check: exit code ${check.code}\n${check.stdout}${check.stderr}`;
  }

  private get options(): Record<string, unknown> {
    return {
      driver: 'qcow2',
      discard: 'unmap',
      ...(this.start.isEncrypted ? { 'encrypt.key-secret': 'key' } : {}),
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
    const wrong = await this.wrongIn(graph, node);
    if (wrong !== undefined) throw new Error(`while open: ${wrong}`);
  }

  private async wrongIn(graph: Graph, node: Node): Promise<string | undefined> {
    const { content } = this.start;
    const found = await contents(graph, node);
    const missed = missedByBitmaps(node, content, found.get('') ?? Buffer.alloc(0));
    return missed ?? whatIsWrong(content, found, this.possible);
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
      if (done && deed.do === 'flush') this.durable = this.possible;
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

for (const [name, scenario] of Object.entries(SCENARIOS)) test.serial(name, survives, scenario);
