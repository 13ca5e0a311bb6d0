/**
 * The n-th write, flush or resize of the file below fails, once or from there on: somebody is told, what was flushed is
 * there, what was answered reads back, and no image becomes one that qemu-img calls corrupt.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { ResizableDisk, recordedDriver, Recorder } from '../format/recorded-disk.ts';
import { hold, MIB, mixedDisk, rawFile, release } from '../format/small-image.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const SIZE = 4 * MIB;

type Operation = 'write' | 'flush' | 'resize';

interface Fault {
  readonly operation: Operation;
  /** Counted from 0. */
  readonly at: number;
  readonly code: 'EIO' | 'ENOSPC';
  readonly once: boolean;
}

class FailingDisk extends ResizableDisk {
  happened = 0;
  private readonly fault: Fault;
  private count = 0;

  constructor(bytes: Buffer, random: Random, fault: Fault) {
    super(new Recorder(), bytes, random);
    this.fault = fault;
  }

  get content(): Buffer {
    return this.bytes.subarray(0, this.size);
  }

  override tryWrite(): boolean {
    return false;
  }

  override async write(bytes: Buffer, offset: number): Promise<void> {
    this.maybeFail('write');
    await super.write(bytes, offset);
  }

  override async flush(): Promise<void> {
    this.maybeFail('flush');
    await super.flush();
  }

  override async resize(size: number): Promise<void> {
    this.maybeFail('resize');
    await super.resize(size);
  }

  private maybeFail(operation: Operation): void {
    const { fault } = this;
    if (operation !== fault.operation) return;
    const due = fault.once ? this.count === fault.at : this.count >= fault.at;
    this.count += 1;
    if (!due) return;
    this.happened += 1;
    throw new BlockError(fault.code, `Cannot ${operation}: as asked`);
  }
}

/** For each byte what it was at the last flush that was answered, and all that it may have become since. */
class Promises {
  readonly answered: Buffer;
  private flushed: Buffer;
  private readonly later: { offset: number; length: number; value: number }[] = [];

  constructor(content: Buffer) {
    this.answered = Buffer.from(content);
    this.flushed = Buffer.from(content);
  }

  write(offset: number, length: number, value: number, ok: boolean): void {
    this.later.push({ offset, length, value });
    if (ok) this.answered.fill(value, offset, offset + length);
  }

  flush(): void {
    this.flushed = Buffer.from(this.answered);
    const open = this.later.filter(({ offset, value }) => this.answered[offset] !== value);
    this.later.splice(0, this.later.length, ...open);
  }

  /** Where a disk breaks them. @param kept the content that counts beside later writes */
  broken(disk: Buffer, kept: 'answered' | 'flushed'): number | undefined {
    const expected = kept === 'answered' ? this.answered : this.flushed;
    if (disk.equals(expected)) return undefined;
    for (let at = 0; at < disk.length; at += 1) {
      if (disk[at] === expected[at]) continue;
      const mayBe = this.later.some(
        ({ offset, length, value }) => at >= offset && at < offset + length && disk[at] === value,
      );
      if (!mayBe) return at;
    }
    return undefined;
  }
}

async function work(disk: Child, random: Random, promises: Promises): Promise<number> {
  let errors = 0;
  const tried = async (change: () => Promise<void>): Promise<boolean> => {
    try {
      await change();
      return true;
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      errors += 1;
      return false;
    }
  };
  for (let count = 1; count <= 24; count += 1) {
    const length = random.between(1, 90_000);
    const offset = random.below(SIZE - length);
    const value = random.chance(0.25) ? 0 : count;
    const ok = await tried(() =>
      value === 0 ? disk.writeZeroes(offset, length) : disk.write(Buffer.alloc(length, value), offset),
    );
    promises.write(offset, length, value, ok);
    if (count % 6 === 0 && (await tried(() => disk.flush()))) promises.flush();
  }
  return errors;
}

async function suffer(
  t: ExecutionContext,
  image: { format: string; path: string; check: boolean; content: Buffer },
  fault: Fault,
): Promise<boolean> {
  const what = `${image.format}, ${fault.operation} ${fault.at} ${fault.code} ${fault.once ? 'once' : 'on'}`;
  const file = new FailingDisk(await readFile(image.path), new Random(seed(82)), fault);
  const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
  const promises = new Promises(image.content);
  const options = { driver: image.format, file: { driver: 'recorded-image', 'node-name': 'file' } };
  const disk = await hold(graph, options).catch(() => undefined);
  let errors = disk === undefined ? 1 : 0;
  if (disk !== undefined) {
    errors += await work(disk, new Random(seed(83) + fault.at), promises);
    const live = Buffer.alloc(SIZE);
    await disk.read(live, 0);
    t.is(promises.broken(live, 'answered'), undefined, `${what}: live content`);
  }
  const closed = await graph.close().then(
    () => true,
    () => false,
  );
  if (file.happened > 0) t.true(errors > 0 || !closed, `${what}: nobody was told`);
  await judge(t, image, file.content, { promises, closed, what });
  return file.happened > 0;
}

async function judge(
  t: ExecutionContext,
  image: { format: string; path: string; check: boolean },
  bytes: Buffer,
  outcome: { promises: Promises; closed: boolean; what: string },
): Promise<void> {
  const path = `${image.path}.after`;
  const { promises, closed, what } = outcome;
  await writeFile(path, bytes);
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const options = { driver: image.format, file: { driver: 'file', filename: path } };
    const disk = await hold(graph, { ...options, 'read-only': true });
    const after = Buffer.alloc(SIZE);
    await disk.read(after, 0);
    t.is(promises.broken(after, closed ? 'answered' : 'flushed'), undefined, `${what}: content afterwards`);
    await release(graph, disk);
    // What was left open, or counted and then not used, is put in order by the next writer.
    const again = await hold(graph, options);
    await again.write(after.subarray(0, 512), 0);
    await again.flush();
  } finally {
    await graph.close();
  }
  if (!image.check) return;
  const { code, stdout, stderr } = await attempt('qemu-img', ['check', '-f', image.format, path]);
  t.true(code === 0 || code === 3, `${what}: ${stdout}${stderr}`);
}

for (const [format, check] of [
  ['vmdk', true],
  ['vdi', true],
  ['vpc', false],
  ['vhdx', true],
  ['qed', true],
  ['parallels', true],
  ['qcow', false],
] as const) {
  for (const operation of ['write', 'flush', 'resize'] as const) {
    test.serial(`${format}: the n-th ${operation} of the file below fails`, async (t) => {
      if (!canRun(t, 'qemu-img')) return;
      const folder = await tempDir(t);
      const content = mixedDisk(seed(81), SIZE);
      content.fill(0, MIB, 3 * MIB);
      const raw = await rawFile(folder, 'content.raw', content);
      const path = join(folder, `disk.${format}`);
      const exact = format === 'vpc' ? ['-o', 'force_size=on'] : [];
      await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...exact, raw, path]);
      let happened = 0;
      for (let at = 0; at < rounds(8, 200); at += at < 3 ? 1 : 2) {
        const once = at % 2 === 0;
        const code = operation === 'flush' || at % 3 === 0 ? 'EIO' : 'ENOSPC';
        if (!(await suffer(t, { format, path, check, content }, { operation, at, code, once }))) break;
        happened += 1;
      }
      t.log(`${happened} faults`);
      t.true(happened > 1 || operation === 'resize');
    });
  }
}
