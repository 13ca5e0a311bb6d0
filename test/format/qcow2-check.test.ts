/** Check and repair of qcow2 images: damage of each kind is found, named, counted and repaired, with qemu-img as the judge. */
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { CheckOptions } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { checkExitCode, checkImage } from '../../src/cli/check-image.ts';
import type { ImageCheck } from '../../src/cli/check-image.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { contents } from './disk-deeds.ts';
import { Damage } from './qcow2-damage.ts';
import type { Base, DamageKind } from './qcow2-damage-kinds.ts';
import { EXTENDED_ENTRIES, L2_ENTRIES } from './qcow2-damaged-entries.ts';
import { L1_ENTRIES, LISTS, REFCOUNTS } from './qcow2-damaged-tables.ts';
import { Edit } from './qcow2-edit.ts';

const DAMAGES = [...L2_ENTRIES, ...EXTENDED_ENTRIES, ...L1_ENTRIES, ...REFCOUNTS, ...LISTS];

function check(image: string, repair: CheckOptions['repair']): Promise<ImageCheck> {
  const values = { format: undefined, 'image-opts': false, 'force-share': false, follow: 'rooted' } as const;
  return checkImage(image, values, repair);
}

/** Opens for writing, writes a little, closes. */
async function use(image: string): Promise<void> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const node = await graph.openImage(image, 'qcow2');
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    await disk.write(Buffer.alloc(70_000, 7), 5 * 65536 + 5);
    await disk.write(Buffer.alloc(3000, 8), 7 * 1024 * 1024);
  } finally {
    await graph.close();
  }
}

const whole = new Map<Base, Promise<Buffer>>();

/** An image that nothing is wrong with; made once for all tests, unless it holds the name of its data file. */
async function makeImage(folder: string, base: Base): Promise<string> {
  if (base.hasDataFile === true) return makeNew(folder, base);
  const image = join(folder, 'image.qcow2');
  const bytes = whole.get(base) ?? makeNew(folder, base).then((path) => readFile(path));
  whole.set(base, bytes);
  await writeFile(image, await bytes);
  return image;
}

/** 8 MiB: 300 KiB of data, a compressed cluster at 2 MiB, and a MiB of data at 5 MiB. */
async function makeNew(folder: string, base: Base): Promise<string> {
  const image = join(folder, 'image.qcow2');
  const options = base.options.replace('DATA', join(folder, 'data.raw'));
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, '8M']);
  const writes = ['write -P 1 0 64k', 'write -P 2 64k 236k', 'write -P 3 5M 1M'];
  if (base.hasDataFile !== true) writes.push('write -c -P 4 2M 64k');
  await run('qemu-io', [...writes.flatMap((write) => ['-c', write]), image]);
  if (base.hasBitmap === true) await run('qemu-img', ['bitmap', '--add', image, 'b0']);
  if (base.hasSnapshots !== true) return image;
  await run('qemu-img', ['snapshot', '-c', 's1', image]);
  await run('qemu-io', ['-c', 'write -P 5 0 64k', image]);
  await run('qemu-img', ['snapshot', '-c', 's2', image]);
  return image;
}

/** The disk, under no name, and each snapshot. */
async function readAll(image: string): Promise<Map<string, Buffer>> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    return await contents(graph, await graph.openImage(image, 'qcow2', { 'read-only': true }));
  } finally {
    await graph.close();
  }
}

const KEYS = [
  'corruptions',
  'leaks',
  'check-errors',
  'image-end-offset',
  'total-clusters',
  'allocated-clusters',
  'fragmented-clusters',
  'compressed-clusters',
];

const repairs = test.macro({
  title: (_given, kind: DamageKind) => kind.name,
  exec: async (t: ExecutionContext, kind: DamageKind) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    const image = await makeImage(await tempDir(t), kind.base);
    const clean = await check(image, 'none');
    t.is(checkExitCode(clean), 0);
    t.deepEqual(clean.result.messages, []);
    const before = await readAll(image);
    const edit = new Edit(await readFile(image));
    kind.damage(edit);
    await writeFile(image, edit.bytes);

    await findsWhatQemuFinds(t, image, kind);
    const repaired = await check(image, 'all');
    const judged = await attempt('qemu-img', ['check', image]);
    t.is(judged.code, kind.isFinal === true ? 2 : 0, judged.stdout + judged.stderr);
    t.is(checkExitCode(repaired), judged.code, repaired.result.messages.join('\n'));
    if (kind.isFinal === true) return;
    t.true((repaired.json['corruptions-fixed'] ?? repaired.json['leaks-fixed']) !== undefined);
    t.true(
      repaired.result.messages.some((message) => /^(Repaired|Given up): /.test(message)) ||
        onlyRefcounts(kind),
    );
    const isLoss = kind.lost !== undefined && kind.name !== 'zeroes whose place is misaligned';
    const saysLoss = repaired.result.messages.some((message) => message.startsWith('Given up: '));
    if (isLoss) t.true(saysLoss, repaired.result.messages.join('\n'));
    compare(t, before, await readAll(image), kind);
    await use(image);
    t.is((await attempt('qemu-img', ['check', image])).code, 0);
    t.is(checkExitCode(await check(image, 'none')), 0);
  },
});

/** Refcounts are repaired without a word each: what was wrong has been said. */
const onlyRefcounts = (kind: DamageKind): boolean =>
  REFCOUNTS.includes(kind) || /share|refcount/.test(kind.name);

async function findsWhatQemuFinds(t: ExecutionContext, image: string, kind: DamageKind): Promise<void> {
  const judged = await attempt('qemu-img', ['check', '--output=json', image]);
  const found = await check(image, 'none');
  t.is(checkExitCode(found), kind.unseenByQemu === true ? 2 : judged.code, found.result.messages.join('\n'));
  t.true(
    found.result.messages.some((message) => kind.says.test(message)),
    found.result.messages.join('\n'),
  );
  if (kind.countsDiffer === true || kind.unseenByQemu === true) return;
  const theirs = JSON.parse(judged.stdout) as Record<string, unknown>;
  t.deepEqual(
    KEYS.map((key) => [key, found.json[key]]),
    KEYS.map((key) => [key, theirs[key]]),
  );
}

function compare(
  t: ExecutionContext,
  before: ReadonlyMap<string, Buffer>,
  after: ReadonlyMap<string, Buffer>,
  { lost, changed, snapshots, lostSnapshot }: DamageKind,
): void {
  t.deepEqual(
    [...after.keys()].filter((name) => name !== ''),
    snapshots ?? [...before.keys()].filter((name) => name !== ''),
  );
  for (const [name, bytes] of after) {
    const wanted = Buffer.from(before.get(name) ?? Buffer.alloc(0));
    if (lost !== undefined) wanted.fill(0, ...lost);
    if (changed !== undefined) bytes.copy(wanted, changed[0], ...changed);
    if (name !== lostSnapshot) t.true(bytes.equals(wanted), `content of "${name}"`);
  }
}

// One after the other: starting programs takes long while much memory is in use.
for (const kind of DAMAGES) test.serial(repairs, kind);

test('leaks alone are repaired as long as everything that may name them is read', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = await makeImage(folder, { options: 'compat=1.1' });
  const edit = new Edit(await readFile(image));
  edit.refcount(6, 3);
  await writeFile(image, edit.bytes);
  const unsure = join(folder, 'unsure.qcow2');
  edit.or(edit.l1, 0x1200n);
  await writeFile(unsure, edit.bytes);
  t.is(checkExitCode(await check(image, 'leaks')), 0);
  t.is((await attempt('qemu-img', ['check', image])).code, 0);
  const refused = await check(unsure, 'leaks');
  t.is(checkExitCode(refused), 2);
  t.regex(
    refused.result.messages.join('\n'),
    /No cluster was freed: something that names clusters can not be read/,
  );
  t.deepEqual(await readFile(unsure), edit.bytes);
});

test('a look changes nothing', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(await tempDir(t), { options: 'compat=1.1' });
  await new Damage(image).setRefcount(6, 0);
  const before = await readFile(image);
  await check(image, 'none');
  t.deepEqual(await readFile(image), before);
});

test('an image that was not closed, with lazy refcounts, is repaired when opened for writing', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(await tempDir(t), { options: 'lazy_refcounts=on' });
  await attempt('qemu-io', ['-c', 'write -P 6 3M 1M', '-c', 'flush', '-c', 'abort', image]);
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as {
    'dirty-flag': boolean;
  };
  t.true(info['dirty-flag'], 'the image is not dirty: nothing is shown');
  const checked = `${image}.checked`;
  await copyFile(image, checked);
  t.is(checkExitCode(await check(checked, 'all')), 0);
  t.is((await new Damage(checked).u64(72)) & 1n, 0n, 'the dirty bit');
  await use(image);
  for (const path of [image, checked]) {
    const judged = await attempt('qemu-img', ['check', path]);
    t.is(judged.code, 0, judged.stdout + judged.stderr);
    t.is(
      ((await readAll(path)).get('') ?? Buffer.alloc(0))
        .subarray(3 * 1024 * 1024, 4 * 1024 * 1024)
        .compare(Buffer.alloc(1024 * 1024, 6)),
      0,
    );
  }
});

test('a corrupt image is read, not written, and repaired', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(await tempDir(t), { options: 'compat=1.1' });
  const damage = new Damage(image);
  await damage.set64(72, 2n);
  const error = await t.throwsAsync(use(image));
  t.regex(error.message, /the corrupt bit is set, must be clear/);
  await damage.setRefcount(6, 0);
  await check(image, 'none');
  t.is(await damage.u64(72), 2n);
  t.is(checkExitCode(await check(image, 'all')), 0);
  t.is(await damage.u64(72), 0n);
  await t.notThrowsAsync(use(image));
});
