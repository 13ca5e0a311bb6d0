/** Tables of qcow2 images that were edited to lie where something is written: refused before it is, whatever the mode looks after. */
import { copyFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import type { Child } from '../../src/block/child.ts';
import { Graph } from '../../src/block/graph.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { Damage } from './qcow2-damage.ts';

const CLUSTER = 65536;
const COPIED = 1n << 63n;
const MiB = 1024 * 1024;

async function makeImage(t: ExecutionContext, snapshot: boolean): Promise<string> {
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  await run('qemu-io', ['-c', 'write -P 1 0 300k', '-c', 'write -P 2 40M 1M', image]);
  if (snapshot) {
    await run('qemu-img', ['snapshot', '-c', 'before', image]);
    await run('qemu-io', ['-c', 'write -P 3 0 64k', image]);
  }
  return image;
}

async function openDisk(t: ExecutionContext, image: string, options: Record<string, unknown>) {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close().catch(() => undefined));
  const node = await graph.openImage(image, 'qcow2', options);
  return { graph, disk: graph.attachRoot(node, { name: 'test', used: 15 }) };
}

/** Bytes of the image that a table takes. */
async function bytesAt(image: string, offset: number): Promise<Buffer> {
  return (await readFile(image)).subarray(offset, offset + CLUSTER);
}

interface Case {
  readonly damage: (damage: Damage) => Promise<void>;
  readonly options?: Record<string, unknown>;
  readonly snapshot?: boolean;
  readonly write: (disk: Child) => Promise<void>;
  /** What the refusal says; undefined: nobody looks, it is written. */
  readonly says: RegExp | undefined;
  /** Whether the data is still found. */
  readonly isRead?: boolean;
}

const looks = test.macro(async (t: ExecutionContext, { options = {}, snapshot = false, ...given }: Case) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, snapshot);
  const damage = new Damage(image);
  await given.damage(damage);
  const tables = [0, await damage.refcountTable(), await damage.refcountBlock(), await damage.l1()];
  const before = await Promise.all(tables.map((at) => bytesAt(image, at)));
  const { graph, disk } = await openDisk(t, image, options);
  const work = async (): Promise<void> => {
    await given.write(disk);
    await disk.flush();
  };
  if (given.says === undefined) {
    await t.notThrowsAsync(work());
    await graph.close().catch(() => undefined);
    t.is((await damage.u64(72)) & 2n, 0n);
    return;
  }
  const error = await t.throwsAsync(work());
  t.regex(error.message, given.says);
  await t.throwsAsync(disk.write(Buffer.alloc(512, 9), 50 * MiB), { message: /it is corrupt/ });
  const read = Buffer.alloc(CLUSTER);
  await disk.read(read, 3 * CLUSTER);
  if (given.isRead !== false) t.is(read[0], 1, 'what is sound is still read');
  await graph.close().catch(() => undefined);
  t.is((await damage.u64(72)) & 2n, 2n, 'the corrupt bit');
  for (const [index, at] of tables.entries()) {
    const now = await bytesAt(image, at);
    if (at === 0) now.writeUInt8(now.readUInt8(79) & ~2, 79);
    t.deepEqual(now, before[index], `the table at ${at}`);
  }
});

/** Guest cluster 1 is said to be where the refcounts are. */
const dataOnRefcounts = async (damage: Damage): Promise<void> =>
  damage.set64((await damage.l2()) + 8, COPIED + BigInt(await damage.refcountBlock()));
const writeThere = (disk: Child): Promise<void> => disk.write(Buffer.alloc(4096, 5), CLUSTER + 512);

test('data in a refcount block', looks, {
  damage: dataOnRefcounts,
  write: writeThere,
  says: /an L2 entry names cluster 2, which holds a refcount block/,
});
test('data in a refcount block, while all is looked after', looks, {
  damage: dataOnRefcounts,
  options: { 'overlap-check': 'all' },
  write: writeThere,
  says: /which holds a refcount block/,
});
test('data in the header, while what is constant is looked after', looks, {
  damage: async (damage) =>
    damage.set64((await damage.l2()) + 8, COPIED + BigInt(await damage.refcountTable())),
  options: { 'overlap-check': 'constant' },
  write: writeThere,
  says: /which holds the refcount table/,
});
test('a switch of its own puts one kind on', looks, {
  damage: dataOnRefcounts,
  options: { 'overlap-check.template': 'none', 'overlap-check.refcount-block': true },
  write: writeThere,
  says: /which holds a refcount block/,
});
test('an L2 table in the refcount table', looks, {
  damage: async (damage) => damage.set64(await damage.l1(), COPIED + BigInt(await damage.refcountTable())),
  write: (disk) => disk.write(Buffer.alloc(4096, 5), 50 * MiB),
  says: /holds both the refcount table and an L2 table|corrupt/,
  isRead: false,
});

/** The lowest free cluster is one that a table is in. */
const freeL2 = async (damage: Damage): Promise<void> => damage.setRefcount((await damage.l2()) / CLUSTER, 0);
const allocate = (disk: Child): Promise<void> => disk.write(Buffer.alloc(CLUSTER, 5), 50 * MiB);

test('an L2 table that is said to be free', looks, {
  damage: freeL2,
  write: allocate,
  says: /cluster 4 holds an L2 table, but its refcount is 0/,
});
test('an L2 table that is said to be free, and not looked after', looks, {
  damage: freeL2,
  options: { 'overlap-check': { 'active-l2': false } },
  write: allocate,
  says: undefined,
});
test('nothing is looked after', looks, {
  damage: freeL2,
  options: { 'overlap-check': 'none' },
  write: allocate,
  says: undefined,
});

/** The L2 table that only the snapshot has. */
const freeInactive = async (damage: Damage): Promise<void> => {
  const entry = await damage.u64(64);
  const l1 = Number(await damage.u64(Number(entry)));
  await damage.setRefcount(Number((await damage.u64(l1)) & 0xfffffffffffe00n) / CLUSTER, 0);
};

test('an L2 table of a snapshot', looks, {
  damage: freeInactive,
  snapshot: true,
  options: { 'overlap-check': 'all' },
  write: allocate,
  says: /holds an L2 table of a snapshot, but its refcount is 0/,
});
test('an L2 table of a snapshot is not looked after unless asked for', looks, {
  damage: freeInactive,
  snapshot: true,
  write: allocate,
  says: undefined,
});

test('tables that are edited while the image is in use', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t, false);
  const { graph, disk } = await openDisk(t, image, {});
  await disk.write(Buffer.alloc(CLUSTER, 7), 0);
  await disk.flush();
  const damage = new Damage(image);
  const block = await damage.refcountBlock();
  const before = await bytesAt(image, block);
  await damage.set64((await damage.l2()) + (40 * MiB * 8) / CLUSTER, COPIED + BigInt(block));
  await t.throwsAsync(disk.write(Buffer.alloc(512, 8), 40 * MiB), { message: /holds a refcount block/ });
  await graph.close().catch(() => undefined);
  t.deepEqual(await bytesAt(image, block), before);
  t.is((await damage.u64(72)) & 2n, 2n);
  t.true((await stat(image)).size > 0);
});

interface Use {
  readonly damage: (damage: Damage) => Promise<void>;
  /** As for qemu-io. */
  readonly requests: readonly (readonly ['read' | 'write', number, number])[];
  /** How qemu-io says it. */
  readonly theirs: RegExp | undefined;
  readonly ours: RegExp;
}

/** What is damaged is met in use: refused as QEMU refuses it, or where QEMU goes on; the corrupt bit is set, nothing is written. */
const meets = test.macro(async (t: ExecutionContext, { damage: harm, requests, theirs, ours }: Use) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '2G']);
  await run('qemu-io', ['-c', 'write -P 1 0 300k', '-c', 'write -P 2 40M 1M', image]);
  const damage = new Damage(image);
  await harm(damage);
  const other = `${image}.qemu`;
  await copyFile(image, other);
  const words = requests.map(([what, offset, length]) => `${what} ${offset} ${length}`);
  const judged = await attempt('qemu-io', [...words.flatMap((word) => ['-c', word]), other]);
  const isSeen = ((await new Damage(other).u64(72)) & 2n) !== 0n;
  t.is(isSeen, theirs !== undefined, judged.stdout + judged.stderr);
  if (theirs !== undefined) t.regex(judged.stdout + judged.stderr, theirs);

  const { graph, disk } = await openDisk(t, image, {});
  const error = await t.throwsAsync(async () => {
    for (const [what, offset, length] of requests)
      await (what === 'read'
        ? disk.read(Buffer.alloc(length), offset)
        : disk.write(Buffer.alloc(length, 5), offset));
    await disk.flush();
  });
  t.regex(error.message, ours);
  await t.throwsAsync(disk.write(Buffer.alloc(512, 9), 50 * MiB), { message: /it is corrupt/ });
  await graph.close().catch(() => undefined);
  t.is((await damage.u64(72)) & 2n, 2n, 'the corrupt bit');
});

test('a misaligned L2 entry is read', meets, {
  damage: async (damage) => damage.set64((await damage.l2()) + 8, COPIED + 0x61200n),
  requests: [['read', CLUSTER, 512]],
  theirs: /unaligned/,
  ours: /the L2 entry of guest offset 65536 is 397824, must be a multiple/,
});
test('a misaligned L2 entry is written', meets, {
  damage: async (damage) => damage.set64((await damage.l2()) + 8, COPIED + 0x61200n),
  requests: [['write', CLUSTER, 512]],
  theirs: /unaligned/,
  ours: /the L2 entry of guest offset 65536 is 397824, must be a multiple/,
});
test('a misaligned L1 entry is read', meets, {
  damage: async (damage) => damage.set64(await damage.l1(), COPIED + 0x41200n),
  requests: [['read', 0, 512]],
  theirs: /unaligned/,
  ours: /L1 entry 0 is 266752, must be a multiple/,
});
test('an L1 entry behind the end of the file is read: QEMU sees zeroes', meets, {
  damage: async (damage) => damage.set64(await damage.l1(), COPIED + 0x7000000000n),
  requests: [['read', 0, 512]],
  theirs: undefined,
  ours: /L1 entry 0 is 481036337152, but the file ends at/,
});
test('a misaligned refcount block is needed', meets, {
  damage: async (damage) => damage.set64(await damage.refcountTable(), 0x21200n),
  requests: [['write', 30 * MiB, 512]],
  theirs: /unaligned/,
  ours: /refcount table entry 0 is 135680, must be a multiple/,
});
test('a refcount block behind the end of the file is needed: QEMU takes all clusters for free', meets, {
  damage: async (damage) => damage.set64(await damage.refcountTable(), 0x7000000000n),
  requests: [['write', 30 * MiB, 512]],
  theirs: /overlaps with/,
  ours: /refcount table entry 0 is 481036337152, but the file ends at/,
});
test('data that an L2 table was put on is written', meets, {
  damage: async (damage) => damage.setRefcount(6, 0),
  requests: [
    ['write', 0, 512],
    ['write', 1024 * MiB, 512],
    ['write', CLUSTER, 512],
  ],
  theirs: /overlaps with active L2 table/,
  ours: /an L2 entry names cluster 6, which holds a new table/,
});
