import test from 'ava';
import type { ExecutionContext } from 'ava';
import { nullCoDriver } from '../../drivers/protocol/null.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { withDrained } from '../../src/block/drain.ts';
import { defineDriver, WriteFlag, ZeroFlag } from '../../src/block/driver.ts';
import type { RequestDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { limits } from '../../src/block/limits.ts';
import type { Limits } from '../../src/block/limits.ts';
import { Permission } from '../../src/block/permissions.ts';
import { evictingDriver } from '../helpers/evicting-format.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

/** A protocol driver that notes what reaches it: `read 0+512`. Its limits are the test's. */
function recorder(given: Partial<Limits>, options: { size?: number; zeroes?: boolean } = {}) {
  const { size = 65536, zeroes = true } = options;
  const calls: string[] = [];
  const bytes = Buffer.alloc(size, 0x11);
  const impl: RequestDriver = {
    family: 'request',
    size,
    limits: limits(given),
    read(target, offset) {
      calls.push(`read ${offset}+${target.length}`);
      bytes.copy(target, 0, offset);
      return Promise.resolve();
    },
    write(source, offset) {
      calls.push(`write ${offset}+${source.length}`);
      source.copy(bytes, offset);
      return Promise.resolve();
    },
    writeZeroes(offset, length, flags) {
      if (!zeroes) return Promise.reject(new BlockError('ENOTSUP', 'Cannot write zeroes'));
      calls.push(`zero ${offset}+${length} flags ${flags}`);
      bytes.fill(0, offset, offset + length);
      return Promise.resolve();
    },
    discard(offset, length) {
      calls.push(`discard ${offset}+${length}`);
      return Promise.resolve();
    },
    flush() {
      calls.push('flush');
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
  const driver = defineDriver({
    name: 'recorder',
    kind: 'protocol',
    summary: 'Notes what reaches it',
    options: {},
    children: {},
    open: () => Promise.resolve(impl),
  });
  return { driver, calls, bytes };
}

async function recorded(
  t: ExecutionContext,
  given: Partial<Limits>,
  options: Parameters<typeof recorder>[1] & { common?: object } = {},
) {
  const { driver, calls, bytes } = recorder(given, options);
  const root = await openRoot(testGraph(t, [driver]), {
    driver: 'recorder',
    discard: 'unmap',
    ...options.common,
  });
  calls.length = 0;
  return { root, calls, bytes };
}

test('read: an unaligned request is widened to the alignment and cut to the largest transfer', async (t) => {
  const { root, calls } = await recorded(t, { requestAlignment: 512, maxTransfer: 1024 });
  const bytes = Buffer.alloc(1500);
  await root.read(bytes, 700);
  t.deepEqual(calls, ['read 512+1024', 'read 1536+1024']);
  t.true(bytes.equals(Buffer.alloc(1500, 0x11)));
});

test('read: past the end of the disk there are zeroes', async (t) => {
  const { root, calls } = await recorded(t, {}, { size: 1000 });
  const bytes = Buffer.alloc(100, 0xff);
  await root.read(bytes, 950);
  t.deepEqual(calls, ['read 950+50']);
  t.true(bytes.equals(Buffer.concat([Buffer.alloc(50, 0x11), Buffer.alloc(50)])));
  await root.read(bytes.fill(0xff), 5000);
  t.true(bytes.equals(Buffer.alloc(100)));
});

test('write: the units it only touches are read, patched and written back', async (t) => {
  const { root, calls, bytes } = await recorded(t, { requestAlignment: 512 });
  await root.write(Buffer.alloc(1024, 0x22), 600);
  t.deepEqual(calls, ['read 512+512', 'read 1536+512', 'write 512+1536']);
  const expected = Buffer.alloc(65536, 0x11).fill(0x22, 600, 1624);
  t.true(bytes.equals(expected));
});

test('write: aligned requests are not read first, FUA is a flush behind it', async (t) => {
  const { root, calls } = await recorded(t, { requestAlignment: 512, maxTransfer: 4096 });
  await root.write(Buffer.alloc(8192), 512, WriteFlag.fua);
  t.deepEqual(calls, ['write 512+4096', 'write 4608+4096', 'flush']);
});

test('write: unaligned neighbours in one sector do not lose each other', async (t) => {
  const root = await openRoot(testGraph(t), { driver: 'slow', size: 4096, alignment: 4096 });
  await Promise.all(
    Array.from({ length: 64 }, (_, index) => root.write(Buffer.alloc(64, index + 1), index * 64)),
  );
  const bytes = Buffer.alloc(4096);
  await root.read(bytes, 0);
  for (let index = 0; index < 64; index += 1) t.is(bytes[index * 64 + 63], index + 1);
});

test('writeZeroes: goes to the driver by its own alignment and limit, the edges are written', async (t) => {
  const { root, calls, bytes } = await recorded(t, { zeroesAlignment: 4096, maxZeroes: 8192 });
  await root.writeZeroes(4000, 4096 * 4, ZeroFlag.mayUnmap);
  t.deepEqual(calls, [
    'write 4000+96',
    'zero 4096+8192 flags 2',
    'zero 12288+4096 flags 2',
    'write 16384+4000',
  ]);
  t.true(bytes.equals(Buffer.alloc(65536, 0x11).fill(0, 4000, 4000 + 4096 * 4)));
});

test('writeZeroes: is written where the driver has no way, unless the caller would rather know', async (t) => {
  const { root, calls, bytes } = await recorded(t, {}, { zeroes: false });
  await root.writeZeroes(10, 100);
  t.deepEqual(calls, ['write 10+100']);
  t.true(bytes.equals(Buffer.alloc(65536, 0x11).fill(0, 10, 110)));
  await t.throwsAsync(root.writeZeroes(0, 100, ZeroFlag.noFallback), { code: 'ENOTSUP' });
});

test('writeZeroes: unmaps only where discard is not ignored', async (t) => {
  const { root, calls } = await recorded(t, {}, { common: { discard: 'ignore' } });
  await root.writeZeroes(0, 512, ZeroFlag.mayUnmap);
  await root.discard(0, 512);
  t.deepEqual(calls, ['zero 0+512 flags 0']);
});

test('detect-zeroes: a write of zeroes becomes a request for zeroes, on both paths', async (t) => {
  const { root, calls } = await recorded(t, {}, { common: { 'detect-zeroes': 'unmap' } });
  const zeroes = Buffer.alloc(1000);
  t.false(root.tryWrite(zeroes, 0, 1000, 0));
  await root.write(zeroes, 0);
  await root.write(Buffer.concat([zeroes, Buffer.of(1)]), 0);
  t.deepEqual(calls, ['zero 0+1000 flags 2', 'write 0+1001']);
});

test('discard: is cut to whole units, the end of the disk counting as one', async (t) => {
  const { root, calls } = await recorded(t, { discardAlignment: 4096, maxDiscard: 8192 }, { size: 20_000 });
  await root.discard(100, 4000);
  await root.discard(100, 12_000);
  await root.discard(10_000, 10_000);
  t.deepEqual(calls, ['discard 4096+4096', 'discard 12288+7712']);
});

test('write: past the end needs the resize permission', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'mem', size: 1000 });
  const held = graph.attachRoot(node, { name: 'writer', used: Permission.consistentRead | Permission.write });
  await t.throwsAsync(held.write(Buffer.alloc(10), 995), { code: 'ENOSPC' });
  await graph.detach(held);
  t.is(node.size, 1000);
});

test('write: without the permission, or to a read-only node, is refused by name', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'mem', size: 1000, 'node-name': 'disk', 'read-only': true });
  const reader = graph.attachRoot(node, { name: 'reader', used: Permission.consistentRead });
  await t.throwsAsync(reader.write(Buffer.alloc(10), 0), { code: 'EROFS', message: /disk/ });
  t.false(reader.tryWrite(Buffer.alloc(10), 0, 10, 0));
  t.throws(() => graph.attachRoot(node, { name: 'writer', used: Permission.write }), { code: 'EROFS' });
});

test('write: two that grow a format at once both succeed', async (t) => {
  const root = await openRoot(testGraph(t), { driver: 'evicting', size: 10_000, file: { driver: 'slow' } });
  const lengths = [20_000, 5000, 30_000, 100, 12_000];
  await Promise.all(lengths.map((end, index) => root.write(Buffer.alloc(100, index + 1), end - 100 + 9000)));
  t.is(root.size, 39_000);
  const bytes = Buffer.alloc(100);
  for (const [index, end] of lengths.entries()) {
    await root.read(bytes, end - 100 + 9000);
    t.true(bytes.equals(Buffer.alloc(100, index + 1)));
  }
});

test('resize: waits for requests under way, and requests wait for it', async (t) => {
  const root = await openRoot(testGraph(t), {
    driver: 'evicting',
    size: 500_000,
    file: { driver: 'slow' },
    seed: 5,
  });
  const writes = Array.from({ length: 20 }, (_, index) =>
    root.write(Buffer.alloc(5000, index + 1), index * 5000),
  );
  await Promise.all([...writes, root.resize(600_000)]);
  const bytes = Buffer.alloc(5000);
  for (let index = 0; index < 20; index += 1) {
    await root.read(bytes, index * 5000);
    t.true(bytes.equals(Buffer.alloc(5000, index + 1)));
  }
  await root.read(bytes, 550_000);
  t.true(bytes.equals(Buffer.alloc(5000)));
});

test('status: tells which layer decides, and where', async (t) => {
  const below = { driver: 'raw', file: { driver: 'mem', size: 200_000 }, 'node-name': 'below' };
  const options = {
    driver: 'evicting',
    size: 300_000,
    cluster: 65536,
    seed: 3,
    'has-backing': true,
    backing: below,
    file: { driver: 'mem', 'node-name': 'file' },
  };
  const root = await openRoot(testGraph(t, [rawDriver]), options);
  const runs: [number, boolean, boolean, number][] = [];
  const status = new BlockStatus();
  for (let at = 0; at < root.size; at += status.length) {
    await root.status(at, root.size - at, status);
    t.true(status.length > 0 && status.data !== status.zero);
    runs.push([at, status.allocated, status.data, status.depth]);
  }
  t.deepEqual(runs, [
    [0, true, true, 0],
    [65_536, true, false, 0],
    [196_608, true, false, 1],
    [200_000, false, false, 0],
    [262_144, true, true, 0],
  ]);
  await root.status(root.size, 1, status);
  t.is(status.length, 0);
});

test('withDrained: holds roots back and waits until nothing is under way', async (t) => {
  const graph = testGraph(t);
  const node = await graph.open({ driver: 'evicting', size: 100_000, file: { driver: 'slow' } });
  const events: string[] = [];
  const hooks = {
    drainBegin: () => events.push('begin'),
    drained: () => Promise.resolve(),
    drainEnd: () => events.push('end'),
  };
  const root = graph.attachRoot(node, { name: 'r', used: 15, hooks });
  const writes = Promise.all(
    Array.from({ length: 10 }, (_, index) => root.write(Buffer.alloc(3000, 1), index * 3001)),
  );
  await withDrained(
    [...node.children.values()].map((child) => child.node),
    () => {
      t.true(node.locks.isFree(0, 100_000));
      events.push(`${node.counters.writes} written`);
    },
  );
  await writes;
  t.deepEqual(events, ['begin', '10 written', 'end']);
});

test('null: takes everything, keeps nothing', async (t) => {
  const root = await openRoot(testGraph(t, [nullCoDriver]), { driver: 'null-co', size: 2 ** 50 });
  await root.write(Buffer.alloc(100, 1), 2 ** 49);
  const bytes = Buffer.alloc(100, 1);
  t.true(root.tryRead(bytes, 0, 100, 2 ** 50 - 100));
  t.true(bytes.equals(Buffer.alloc(100)));
});

const serves = test.macro(async (t: ExecutionContext, options: Record<string, unknown>, size: number) => {
  for (let round = 0; round < rounds(5, 100); round += 1) {
    const ownSeed = seed(2000 + round);
    const graph = testGraph(t, [rawDriver]);
    const root = await openRoot(graph, { ...options, discard: 'unmap' });
    const model = new ModelDisk(size);
    const random = new Random(ownSeed);
    const disk = childDisk(root, random);
    const run = { random, operations: 300, concurrency: 12, maxLength: 30_000, borders: [65536] };
    await exercise(disk, model, run);
    await verify(disk, model, 99_999);
    await graph.close();
  }
  t.pass();
});

test('requests over mem agree with the model', serves, { driver: 'mem', size: 300_001 }, 300_001);
test('over sectors of 512', serves, { driver: 'slow', size: 300_032, alignment: 512 }, 300_032);
test(
  'over sectors of 4096 that end within one',
  serves,
  { driver: 'raw', size: 299_999, file: { driver: 'slow', size: 303_104, alignment: 4096 } },
  299_999,
);
test(
  'over raw at an unaligned offset',
  serves,
  { driver: 'raw', offset: 777, size: 250_000, file: { driver: 'slow', size: 303_104, alignment: 512 } },
  250_000,
);
test(
  'over a format in a format',
  serves,
  { driver: 'raw', file: { driver: evictingDriver.name, size: 1, file: { driver: 'mem' } }, size: 1 },
  1,
);
