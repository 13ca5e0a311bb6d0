/**
 * A repair during which a write, flush or allocation fails, or that is killed: what it leaves is no worse, another repair ends
 * well, and the content is that of a repair that nothing came in the way of.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { CheckResult, Driver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import { isSoak, Random, rounds, seed } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { contents } from './disk-deeds.ts';
import { FaultyDisk, faultyDriver, Faults } from './faulty-disk.ts';
import type { Fault } from './faulty-disk.ts';
import { Edit, CROOKED, FAR } from './qcow2-edit.ts';
import { recordedDriver, Recorder, ResizableDisk } from './recorded-disk.ts';

const KINDS = ['write', 'flush', 'allocation'] as const;
const LAST = 60;

/** Repairs the image that is node `file` of a driver. */
async function repair(driver: Driver): Promise<CheckResult | undefined> {
  const graph = new Graph({ drivers: [...DRIVERS, driver] });
  const file = { driver: driver.name, 'node-name': 'file' };
  try {
    const node = await graph.open({ driver: 'qcow2', 'x-repair': true, file });
    return await node.driver.check?.(node.impl, { repair: 'all' });
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return undefined;
  } finally {
    await graph.close().catch(() => undefined);
  }
}

const left = (result: CheckResult | undefined): number =>
  result === undefined
    ? -1
    : result.corruptions - result.corruptionsFixed + result.leaks - result.leaksFixed + result.checkErrors;

interface Repaired {
  readonly bytes: Buffer;
  readonly content: ReadonlyMap<string, Buffer>;
}

/** Repairs, and reads everything. */
async function repaired(bytes: Buffer): Promise<Repaired> {
  const disk = new FaultyDisk(bytes, new Faults());
  const result = await repair(faultyDriver({ file: disk }));
  if (left(result) !== 0) throw new Error(`left by the repair: ${result?.messages.join('\n') ?? 'all'}`);
  const graph = new Graph({ drivers: [...DRIVERS, faultyDriver({ file: disk })] });
  try {
    const node = await graph.open({
      driver: 'qcow2',
      'read-only': true,
      file: { driver: 'faulty-image', 'node-name': 'file' },
    });
    return { bytes: disk.content(), content: await contents(graph, node) };
  } finally {
    await graph.close();
  }
}

function sameContent(one: Repaired['content'], other: Repaired['content']): boolean {
  if ([...one.keys()].join() !== [...other.keys()].join()) return false;
  return [...one].every(([name, bytes]) => other.get(name)?.equals(bytes) === true);
}

interface Scenario {
  readonly options: string;
  readonly hasSnapshots?: boolean;
  readonly damage: (edit: Edit) => void;
}

async function makeDamaged(
  t: ExecutionContext,
  scenario: Scenario,
): Promise<{ image: string; bytes: Buffer }> {
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', scenario.options, image, '2M']);
  await run('qemu-io', [
    '-c',
    'write -P 1 0 50k',
    '-c',
    'write -P 2 100k 30k',
    '-c',
    'write -P 3 1M 20k',
    image,
  ]);
  if (scenario.hasSnapshots === true) {
    await run('qemu-img', ['snapshot', '-c', 's1', image]);
    await run('qemu-io', ['-c', 'write -P 4 0 10k', image]);
    await run('qemu-img', ['snapshot', '-c', 's2', image]);
  }
  const edit = new Edit(await readFile(image));
  scenario.damage(edit);
  return { image, bytes: edit.bytes };
}

/** Each place once, with what fails there taking turns; in a soak every way in every place. */
function* faults(): Generator<Fault, void> {
  for (const kind of KINDS) {
    for (let number = 1; number <= LAST; number += 1) {
      for (const [way, code] of (['EIO', 'ENOSPC', 'EIO', 'ENOSPC'] as const).entries()) {
        if (isSoak() || number % 4 === way) yield { kind, number, code, lasting: way >= 2 };
      }
    }
  }
}

const survives = test.macro(async (t: ExecutionContext, scenario: Scenario) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const { image, bytes } = await makeDamaged(t, scenario);
  const wanted = await repaired(bytes);
  const judge = async (after: Buffer, about: string): Promise<void> => {
    const again = await repaired(after).catch((error: unknown) => {
      throw new Error(`${about}: ${String(error)}`);
    });
    if (!sameContent(again.content, wanted.content)) throw new Error(`${about}: the content is another one`);
    await writeFile(image, again.bytes);
  };
  const done = new Set<string>();
  for (const fault of faults()) {
    if (done.has(fault.kind)) continue;
    const counted = new Faults(fault);
    const disk = new FaultyDisk(bytes, counted);
    const result = await repair(faultyDriver({ file: disk }));
    const about = `${fault.lasting ? 'from' : 'only'} ${fault.kind} ${fault.number} on ${fault.code}`;
    if (counted.fired === 0) done.add(fault.kind);
    else if (result !== undefined && left(result) !== 0 && !isUnshared(result))
      t.fail(`${about}: ${result.messages.join('\n')}`);
    await judge(disk.content(), about);
  }
  t.is((await attempt('qemu-img', ['check', image])).code, 0);
  await cuts(bytes, judge);
  t.is((await attempt('qemu-img', ['check', image])).code, 0);
});

/** There was no room for copies: that is told, and no failure. */
const isUnshared = (result: CheckResult): boolean =>
  result.messages.some((message) => message.startsWith('Entries that share clusters go on doing so'));

async function cuts(bytes: Buffer, judge: (after: Buffer, about: string) => Promise<void>): Promise<void> {
  const random = new Random(seed(11));
  const recorder = new Recorder();
  const disk = new ResizableDisk(recorder, bytes, random);
  await repair(recordedDriver({ file: disk }));
  const places = recorder.events.length;
  for (let round = 0; round < rounds(20, 400); round += 1) {
    const end = round < places ? round + 1 : random.between(1, places);
    await judge(recorder.afterCut(0, end, random), `cut behind event ${end} of ${places}`);
  }
}

test.serial('entries that are misaligned, out of the file, and shared', survives, {
  options: 'cluster_size=4k',
  damage: (edit) => {
    edit.or(edit.entry(0), 0x600n);
    edit.set64(edit.entry(1), FAR);
    edit.set64(edit.entry(3), edit.u64(edit.entry(2)));
    edit.clear(edit.entry(5), 1n << 63n);
  },
});
test.serial('refcounts that are too low and too high, and leaks', survives, {
  options: 'cluster_size=4k',
  damage: (edit) => {
    for (const cluster of [5, 6, 9]) edit.refcount(cluster, 0);
    for (const cluster of [7, 8]) edit.refcount(cluster, 3);
    edit.set64(edit.entry(30), 0n);
  },
});
test.serial('refcounts that have to be made anew', survives, {
  options: 'cluster_size=512,refcount_bits=64',
  damage: (edit) => edit.or(edit.refcountTable, 0x77n),
});
test.serial('a refcount table that is gone, with snapshots', survives, {
  options: 'cluster_size=4k',
  hasSnapshots: true,
  damage: (edit) => edit.set64(48, FAR),
});
test.serial('a snapshot table that is gone, and a snapshot whose L1 table is misaligned', survives, {
  options: 'cluster_size=64k',
  hasSnapshots: true,
  damage: (edit) => {
    edit.or(edit.snapshots, CROOKED);
    edit.or(64, CROOKED);
  },
});
test.serial('an L1 entry that is misaligned, the rest of its range given up', survives, {
  options: 'cluster_size=512',
  hasSnapshots: true,
  damage: (edit) => {
    edit.set64(edit.l1 + 16, FAR);
    edit.refcount(20, 7);
  },
});
