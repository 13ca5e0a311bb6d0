/** A view of a disk at one moment, while the disk goes on being written: copy-before-write with snapshot-access. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { copyBeforeWriteDriver } from '../../drivers/filter/copy-before-write/driver.ts';
import { delayDriver } from '../../drivers/filter/delay.ts';
import { errorDriver } from '../../drivers/filter/error.ts';
import { snapshotAccessDriver } from '../../drivers/filter/snapshot-access.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import type { Child } from '../../src/block/child.ts';
import { DirtyBitmap } from '../../src/block/dirty-bitmap.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import type { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { WriteWatch } from '../../src/block/write-watch.ts';
import { startContent } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { shape, violations } from '../graph/random-graph.ts';

const { consistentRead, write, resize } = Permission;
const CLUSTER = 65536;
const SIZE = 24 * CLUSTER + 1000;
const DRIVERS = [rawDriver, copyBeforeWriteDriver, snapshotAccessDriver, delayDriver, errorDriver];

interface Disk {
  readonly graph: Graph;
  readonly guest: Child;
}

async function openDisk(t: ExecutionContext, options: Record<string, unknown>): Promise<Disk> {
  const graph = testGraph(t, DRIVERS);
  const node = await graph.open({ ...options, 'node-name': 'disk', discard: 'unmap' });
  const shared = ALL_PERMISSIONS & ~(write | resize);
  const guest = graph.attachRoot(node, { name: 'guest', used: consistentRead | write, shared });
  return { graph, guest };
}

/** The steps of a backup with qemu-storage-daemon: target, copy-before-write, into the graph, snapshot-access, a reader. */
async function startView(
  graph: Graph,
  cbw: Record<string, unknown> = {},
  target?: Record<string, unknown>,
): Promise<Child> {
  const { driver = 'mem', ...rest } = target ?? { size: SIZE };
  await graph.open({ ...rest, driver, 'node-name': 'target', discard: 'unmap' });
  await graph.open({
    driver: 'copy-before-write',
    'node-name': 'cbw',
    file: 'disk',
    target: 'target',
    ...cbw,
  });
  await graph.replace(graph.node('disk'), graph.node('cbw'));
  const view = await graph.open({
    driver: 'snapshot-access',
    'node-name': 'view',
    file: 'cbw',
    discard: 'unmap',
  });
  return graph.attachRoot(view, { name: 'backup', used: consistentRead });
}

async function endView(graph: Graph, backup: Child): Promise<void> {
  await graph.detach(backup);
  await graph.remove('view');
  await graph.replace(graph.node('cbw'), graph.node('disk'));
  await graph.remove('cbw');
  await graph.remove('target');
}

const readAll = async (door: Child): Promise<Buffer> => {
  const bytes = Buffer.alloc(door.size, 0xdb);
  await door.read(bytes, 0);
  return bytes;
};

const fleeced = test.macro(
  async (
    t: ExecutionContext,
    options: Record<string, unknown>,
    content: Buffer,
    target?: Record<string, unknown>,
  ) => {
    const ownSeed = seed(77);
    const { graph, guest } = await openDisk(t, options);
    const model = new ModelDisk(SIZE);
    content.copy(model.bytes);
    const random = new Random(ownSeed);
    const disk = childDisk(guest, random);
    const load = { random, concurrency: 8, maxLength: 100_000, borders: [CLUSTER], discardZeroes: false };
    await exercise(disk, model, { ...load, operations: 150 });
    const before = shape(graph);
    for (let round = 0; round < rounds(target === undefined ? 10 : 3, 50); round += 1) {
      const backup = await startView(graph, {}, target);
      const wanted = Buffer.from(model.bytes);
      const writing = exercise(disk, model, { ...load, operations: 200 });
      const reader = new Random(ownSeed + round);
      for (let count = 0; count < 30; count += 1) {
        const offset = reader.below(SIZE);
        const piece = Buffer.alloc(Math.min(SIZE - offset, reader.below(200_000) + 1), 0xdb);
        if (!backup.tryRead(piece, 0, piece.length, offset)) await backup.read(piece, offset);
        if (!piece.equals(wanted.subarray(offset, offset + piece.length)))
          t.fail(`round ${round}: torn at ${offset}`);
      }
      await writing;
      t.true((await readAll(backup)).equals(wanted), `round ${round}`);
      t.true((await readAll(backup)).equals(wanted), `round ${round}, again`);
      t.deepEqual(violations(graph), []);
      await endView(graph, backup);
      t.is(shape(graph), before, 'it vanishes cleanly');
      await verify(guest, model);
    }
  },
);

const NOTHING = Buffer.alloc(0);
const FORMAT = { size: SIZE, cluster: 4096, seed: 5 };
test('view of a disk in memory, ten times under writes', fleeced, { driver: 'mem', size: SIZE }, NOTHING);
test('view of a slow disk', fleeced, { driver: 'raw', file: { driver: 'slow', size: SIZE } }, NOTHING);
test(
  'view of an image that keeps hardly anything in memory, copied to such an image',
  fleeced,
  { driver: 'evicting', ...FORMAT, file: { driver: 'slow' } },
  startContent(FORMAT, NOTHING),
  { driver: 'evicting', size: SIZE, cluster: 4096, seed: 9, file: { driver: 'slow', seed: 4 } },
);

test('the view may be attached only where all writes are seen', async (t) => {
  const { graph } = await openDisk(t, { driver: 'mem', size: SIZE });
  await graph.open({ driver: 'mem', 'node-name': 'target', size: SIZE });
  await graph.open({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'target' });
  await t.throwsAsync(graph.open({ driver: 'snapshot-access', 'node-name': 'view', file: 'cbw' }), {
    code: 'EPERM',
    message: /"write": export "guest" wants it, node "cbw" \(as its "file"\).* does not share it/,
  });
  await t.throwsAsync(graph.open({ driver: 'snapshot-access', file: 'disk' }), {
    code: 'ENOTSUP',
    message: /offers none/,
  });
  await graph.open({ driver: 'mem', 'node-name': 'small', size: SIZE - 1 });
  await t.throwsAsync(graph.open({ driver: 'copy-before-write', file: 'disk', target: 'small' }), {
    message: /target "small" has 1573863 bytes, must have the 1573864 of "disk"/,
  });
});

test('the view can not be written, and is gone where it was discarded', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  await guest.write(Buffer.alloc(SIZE, 7), 0);
  const backup = await startView(graph);
  graph.setRootPermissions(backup, { used: consistentRead | write, shared: ALL_PERMISSIONS });
  await t.throwsAsync(backup.write(Buffer.alloc(10), 0), { code: 'EROFS' });
  await guest.write(Buffer.alloc(3 * CLUSTER, 8), 0);
  t.is(graph.node('target').impl.allocatedSize?.(), 3 * CLUSTER);
  await backup.discard(CLUSTER, CLUSTER + 5);
  t.is(graph.node('target').impl.allocatedSize?.(), 2 * CLUSTER);
  await t.throwsAsync(backup.read(Buffer.alloc(10), CLUSTER), { code: 'EACCES', message: /discarded there/ });
  t.is((await readPiece(backup, 2 * CLUSTER, 10))[0], 7);
  await backup.discard(10 * CLUSTER, CLUSTER);
  await guest.write(Buffer.alloc(CLUSTER, 9), 10 * CLUSTER);
  t.is(graph.node('target').impl.allocatedSize?.(), 2 * CLUSTER, 'nothing is copied that nobody wants');
});

async function readPiece(door: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await door.read(bytes, offset);
  return bytes;
}

test('a resize of the disk leaves the view as it was', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  graph.setRootPermissions(guest, { used: consistentRead | write | resize, shared: consistentRead });
  await guest.write(Buffer.alloc(SIZE, 7), 0);
  const backup = await startView(graph);
  await guest.resize(5 * CLUSTER, true);
  t.is(backup.size, SIZE);
  t.true((await readAll(backup)).equals(Buffer.alloc(SIZE, 7)));
  await guest.resize(SIZE * 2);
  await guest.write(Buffer.alloc(CLUSTER, 1), SIZE);
  t.true((await readAll(backup)).equals(Buffer.alloc(SIZE, 7)));
});

test('what is known to be zero is told, and stays true', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'raw', file: { driver: 'mem', size: SIZE } });
  await guest.write(Buffer.alloc(CLUSTER, 7), CLUSTER);
  const backup = await startView(graph);
  await guest.write(Buffer.alloc(CLUSTER, 8), 5 * CLUSTER);
  await guest.writeZeroes(CLUSTER, CLUSTER, 2);
  const status = new BlockStatus();
  const runs: [number, boolean][] = [];
  for (let at = 0; at < SIZE; at += status.length) {
    await backup.status(at, SIZE - at, status);
    const [last] = runs.slice(-1);
    if (last?.[1] === status.zero) continue;
    runs.push([at / CLUSTER, status.zero]);
  }
  t.deepEqual(runs, [
    [0, true],
    [1, false],
    [2, true],
    [5, false],
    [6, true],
  ]);
});

/** The bitmap marks two clusters and a bit of a third, in granules that are smaller than clusters. */
async function startPartly(
  t: ExecutionContext,
  options: Record<string, unknown>,
): Promise<Disk & { backup: Child }> {
  const disk = await openDisk(t, options);
  await disk.guest.write(Buffer.alloc(SIZE, 7), 0);
  const watch = (disk.graph.node('disk').watch ??= new WriteWatch());
  const bitmap = new DirtyBitmap({ name: 'b0', granularity: 4096, size: SIZE });
  watch.bitmaps.set('b0', bitmap);
  bitmap.set(3 * CLUSTER, 2 * CLUSTER);
  bitmap.set(8 * CLUSTER + 100, 1);
  const backup = await startView(disk.graph, { bitmap: { node: 'disk', name: 'b0' } });
  bitmap.set(12 * CLUSTER, CLUSTER);
  return { ...disk, backup };
}

test('bitmap: only what it marks is copied, and can be read in the view', async (t) => {
  for (const options of [
    { driver: 'mem', size: SIZE },
    { driver: 'raw', file: { driver: 'slow', size: SIZE } },
  ]) {
    const { graph, guest, backup } = await startPartly(t, options);
    await guest.write(Buffer.alloc(SIZE, 8), 0);
    t.is(graph.node('target').impl.allocatedSize?.(), 3 * CLUSTER);
    const seen: (number | string)[] = [];
    for (let at = 0; at < SIZE; at += CLUSTER) {
      const refused = (error: unknown): string => (error as BlockError).code;
      seen.push(await readPiece(backup, at, 10).then(([byte = 0]) => byte, refused));
    }
    const marked = new Set([3, 4, 8]);
    t.deepEqual(
      seen,
      Array.from({ length: seen.length }, (_, cluster) => (marked.has(cluster) ? 7 : 'EACCES')),
    );
    await t.throwsAsync(backup.read(Buffer.alloc(20), 5 * CLUSTER - 10), {
      code: 'EACCES',
      message: /view of "disk": bitmap "b0" did not mark it there/,
    });
    await endView(graph, backup);
    await verifyAll(t, guest, 8);
  }
});

async function verifyAll(t: ExecutionContext, door: Child, byte: number): Promise<void> {
  t.true((await readAll(door)).equals(Buffer.alloc(SIZE, byte)));
}

const REFUSED_BITMAPS: [Record<string, unknown>, RegExp][] = [
  [{ bitmap: { node: 'disk' } }, /option "bitmap.name" is missing/],
  [{ bitmap: { name: 'b0' } }, /option "bitmap.node" is missing/],
  [{ bitmap: { node: 'disk', name: 'nix' } }, /Dirty bitmap 'nix' of node "disk" not found/],
  [{ bitmap: { node: 'nix', name: 'b0' } }, /Cannot find node "nix"/],
  [{ bitmap: { node: 'disk', name: 'busy' } }, /Dirty bitmap 'busy' of node "disk" is in use by job "j0"/],
  [{ bitmap: { node: 'disk', name: 'small' } }, /bitmap "small" is of 512 bytes, must be of the 1573864/],
  [{ bitmap: 'b0' }, /has no option "bitmap"/],
  [{ 'min-cluster-size': 100_000 }, /min-cluster-size is 100000, must be a power of two/],
];
test('bitmap: one that will not do is refused, and nothing stays behind', async (t) => {
  const { graph } = await openDisk(t, { driver: 'mem', size: SIZE });
  await graph.open({ driver: 'mem', 'node-name': 'target', size: SIZE });
  const watch = (graph.node('disk').watch ??= new WriteWatch());
  for (const [name, size] of [
    ['busy', SIZE],
    ['small', 512],
  ] as const)
    watch.bitmaps.set(name, new DirtyBitmap({ name, granularity: 512, size }));
  const busy = watch.bitmaps.get('busy');
  if (busy !== undefined) busy.user = 'job "j0"';
  const before = shape(graph);
  for (const [options, message] of REFUSED_BITMAPS)
    await t.throwsAsync(
      graph.open({ driver: 'copy-before-write', file: 'disk', target: 'target', ...options }),
      {
        message,
      },
    );
  t.is(shape(graph), before);
});

test('min-cluster-size: more is copied at once', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  await startView(graph, { 'min-cluster-size': 4 * CLUSTER });
  await guest.write(Buffer.alloc(10, 1), 5 * CLUSTER);
  t.is(graph.node('target').impl.allocatedSize?.(), 4 * CLUSTER);
});

const FULL = { driver: 'error', iotype: 'write', errno: 28, file: { driver: 'mem', size: SIZE } };

test('on-cbw-error=break-guest-write: the write fails, the view stays', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  await guest.write(Buffer.alloc(SIZE, 7), 0);
  const backup = await startView(graph, {}, FULL);
  await t.throwsAsync(guest.write(Buffer.alloc(10), 100), {
    code: 'ENOSPC',
    message: /Cannot keep the view of "disk"/,
  });
  t.is((await readPiece(guest, 100, 1))[0], 7);
  t.true((await readAll(backup)).equals(Buffer.alloc(SIZE, 7)));
});

test('on-cbw-error=break-snapshot: the view fails, writes go on', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  const backup = await startView(graph, { 'on-cbw-error': 'break-snapshot' }, FULL);
  await guest.write(Buffer.alloc(10, 1), 100);
  t.is((await readPiece(guest, 100, 1))[0], 1);
  await t.throwsAsync(backup.read(Buffer.alloc(10), 5 * CLUSTER), {
    code: 'EACCES',
    message: /Cannot keep the view/,
  });
  await guest.write(Buffer.alloc(10, 1), 5 * CLUSTER);
  await endView(graph, backup);
});

test('cbw-timeout: a target that hangs holds up a write no longer than that', async (t) => {
  const { graph, guest } = await openDisk(t, { driver: 'mem', size: SIZE });
  // An hour, unless it is drained.
  const slow = { driver: 'delay', 'write-ms': 3_600_000, file: { driver: 'mem', size: SIZE } };
  const backup = await startView(graph, { 'on-cbw-error': 'break-snapshot', 'cbw-timeout': 1 }, slow);
  const started = performance.now();
  await guest.write(Buffer.alloc(10, 1), 100);
  const took = performance.now() - started;
  t.true(took > 900, `${took} ms`);
  const error = await t.throwsAsync(backup.read(Buffer.alloc(10), 0), { instanceOf: BlockError });
  t.regex(error.message, /a copy took longer than 1 s/);
  await graph.change([graph.node('target')], () => Promise.resolve());
  await endView(graph, backup);
});
