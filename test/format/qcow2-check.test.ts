/** Check and repair of qcow2 images: damage of each kind is found, named and repaired, with qemu-img as the judge. */
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { CheckOptions, CheckResult } from '../../src/block/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { Damage } from './qcow2-damage.ts';

async function check(image: string, repair: CheckOptions['repair']): Promise<CheckResult> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const options = repair === 'none' ? { 'read-only': true } : { 'x-repair': true };
    const node = await graph.openImage(image, 'qcow2', options);
    const result = await node.driver.check?.(node.impl, { repair });
    if (result === undefined) throw new Error('the driver has no check');
    return result;
  } finally {
    await graph.close();
  }
}

/** Opens for writing, writes a little, closes. */
async function use(image: string): Promise<void> {
  const graph = new Graph({ drivers: DRIVERS });
  try {
    const node = await graph.openImage(image, 'qcow2');
    const disk = graph.attachRoot(node, { name: 'test', used: 15 });
    await disk.write(Buffer.alloc(70_000, 7), 5 * 65536 + 5);
  } finally {
    await graph.close();
  }
}

async function makeImage(t: ExecutionContext, options: string): Promise<string> {
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, image, '64M']);
  await run('qemu-io', ['-c', 'write -P 1 0 300k', '-c', 'write -P 2 40M 1M', image]);
  return image;
}

interface Expected {
  readonly corruptions: boolean;
  readonly leaks: boolean;
  readonly names: RegExp;
  /** What qemu-img makes of it: 1 can't be checked, 2 corruptions, 3 leaks. */
  readonly code: number;
}

const repairs = test.macro(
  async (t: ExecutionContext, damage: (damage: Damage) => Promise<void>, expected: Expected) => {
    if (!canRun(t, 'qemu-img', 'qemu-io')) return;
    const image = await makeImage(t, 'compat=1.1');
    const clean = await check(image, 'none');
    t.deepEqual([clean.corruptions, clean.leaks, clean.checkErrors, clean.messages], [0, 0, 0, []]);
    await damage(new Damage(image));
    t.is((await attempt('qemu-img', ['check', image])).code, expected.code);
    const found = await check(image, 'none');
    t.is(found.corruptions > 0, expected.corruptions, found.messages.join('\n'));
    t.is(found.leaks > 0, expected.leaks, found.messages.join('\n'));
    t.true(
      found.messages.some((message) => expected.names.test(message)),
      found.messages.join('\n'),
    );
    const repaired = await check(image, 'all');
    t.is(repaired.corruptionsFixed + repaired.leaksFixed, repaired.corruptions + repaired.leaks);
    const judged = await attempt('qemu-img', ['check', image]);
    t.is(judged.code, 0, judged.stdout + judged.stderr);
    const read = ['-c', 'read -P 1 0 300k', '-c', 'read -P 2 40M 1M'];
    t.notRegex((await run('qemu-io', [...read, image])).stdout, /verification failed/);
    await use(image);
    t.is((await attempt('qemu-img', ['check', image])).code, 0);
  },
);

const leak = async (damage: Damage): Promise<void> => {
  await damage.set64(101 * 65536 - 8, 0n);
  await damage.set16((await damage.refcountBlock()) + 200, 1);
};

test('a leaked cluster', repairs, leak, {
  corruptions: false,
  leaks: true,
  names: /Leaked cluster 100 has refcount 1, but 0 references/,
  code: 3,
});
test(
  'a cluster in use with refcount 0',
  repairs,
  async (damage) => damage.set16((await damage.refcountBlock()) + 2 * 6, 0),
  { corruptions: true, leaks: false, names: /In use: cluster 6 has refcount 0, but 1 references/, code: 2 },
);
test(
  'a refcount table without its block',
  repairs,
  async (damage) => damage.set64(await damage.refcountTable(), 0n),
  { corruptions: true, leaks: false, names: /In use: cluster 0 has refcount 0/, code: 2 },
);
test(
  'a refcount block out of place',
  repairs,
  async (damage) => damage.set64(await damage.refcountTable(), 0x123400n),
  { corruptions: true, leaks: false, names: /refcount block 0 is at 1192960, must be a multiple/, code: 1 },
);
test(
  'a missing flag of an unshared cluster',
  repairs,
  async (damage) => {
    const at = await damage.l2();
    await damage.set64(at, (await damage.u64(at)) & 0x7fffffffffffffffn);
  },
  { corruptions: true, leaks: false, names: /does not say that its refcount is one/, code: 2 },
);

test('a refcount that is too high', repairs, async (damage) => damage.setRefcount(6, 3), {
  corruptions: false,
  leaks: true,
  names: /Leaked cluster 6 has refcount 3, but 1 references/,
  code: 2,
});
test(
  'a refcount table entry past the end of the file',
  repairs,
  async (damage) => damage.set64(await damage.refcountTable(), 0x7000000000n),
  { corruptions: true, leaks: false, names: /refcount block 0 is at 481036337152/, code: 2 },
);
test(
  'a refcount block in two places of the table',
  repairs,
  async (damage) => damage.set64((await damage.refcountTable()) + 8, BigInt(await damage.refcountBlock())),
  {
    corruptions: true,
    leaks: true,
    names: /refcount block 1 at 131072 is used for something else as well/,
    code: 2,
  },
);
test(
  'an L1 entry without the flag of unshared tables',
  repairs,
  async (damage) =>
    damage.set64(await damage.l1(), (await damage.u64(await damage.l1())) & 0x7fffffffffffffffn),
  { corruptions: true, leaks: false, names: /L1 entry 0 does not say that its refcount is one/, code: 2 },
);

test('an image that was not closed, with lazy refcounts, is repaired when opened for writing', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, 'lazy_refcounts=on');
  await attempt('qemu-io', ['-c', 'write -P 3 20M 2M', '-c', 'flush', '-c', 'abort', image]);
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout) as {
    'dirty-flag': boolean;
  };
  t.true(info['dirty-flag'], 'the image is not dirty: nothing is shown');
  await use(image);
  const judged = await attempt('qemu-img', ['check', image]);
  t.is(judged.code, 0, judged.stdout + judged.stderr);
  const read = await run('qemu-io', ['-c', 'read -P 3 20M 2M', '-c', 'read -P 7 327685 70000', image]);
  t.notRegex(read.stdout, /verification failed/);
});

test('a corrupt image is read, not written, and repaired', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, 'compat=1.1');
  await new Damage(image).set64(72, 2n);
  const error = await t.throwsAsync(use(image));
  t.regex(error.message, /the corrupt bit is set, must be clear/);
  await check(image, 'none');
  await check(image, 'all');
  await t.notThrowsAsync(use(image));
});

test('damage found in use sets the corrupt bit and ends writing', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, 'compat=1.1');
  const damage = new Damage(image);
  await damage.set64((await damage.l2()) + 8, 0x8000000000123400n);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close().catch(() => undefined));
  const node = await graph.openImage(image, 'qcow2');
  const disk = graph.attachRoot(node, { name: 'test', used: 15 });
  const bytes = Buffer.alloc(4096);
  const error = await t.throwsAsync(disk.read(bytes, 65536));
  t.regex(
    error.message,
    /the L2 entry of guest offset 65536 is 1192960, must be a multiple of the cluster size/,
  );
  await t.throwsAsync(disk.write(bytes, 30 * 1024 * 1024), { message: /it is corrupt/ });
  await disk.read(bytes, 0);
  t.is(bytes[0], 1);
  await graph.close().catch(() => undefined);
  t.is((await damage.u64(72)) & 2n, 2n);
});
