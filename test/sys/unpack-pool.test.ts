import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { deflateRawSync, deflateSync, zstdCompressSync } from 'node:zlib';
import test from 'ava';
import { dmgDriver } from '../../drivers/format/dmg/driver.ts';
import { xzDriver } from '../../drivers/format/compressed/xz-driver.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { Graph } from '../../src/block/graph.ts';
import { UnpackPool } from '../../src/sys/unpack-pool.ts';
import { unpackHere, UnpackerLost } from '../../src/util/unpack-service.ts';
import type { UnpackService, XzBlockSetup, XzBlockSteps } from '../../src/util/unpack-service.ts';
import { buildDmg, Type } from '../format/dmg-images.ts';
import { holdImage, MIB, rawFile, readAll } from '../format/small-image.ts';
import { difference } from '../helpers/model-disk.ts';
import { blockfuse } from '../helpers/program.ts';
import { Random } from '../helpers/random.ts';
import { runBytes } from '../helpers/run-bytes.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const soft = (seed: number, size: number): Buffer =>
  Buffer.from(new Random(seed).bytes(size).map((byte) => byte % 11));

test('the pool unpacks many things at once, with no more threads than it may have', async (t) => {
  if (!canRun(t, 'bzip2', 'xz')) return;
  const pool = new UnpackPool({ threads: 2 });
  t.is(pool.size, 0);
  const plain = soft(1, 300_000);
  const bzip2 = await runBytes('bzip2', ['-c'], plain);
  const xz = await runBytes('xz', ['-c'], plain);
  const jobs = Array.from({ length: 12 }, (_, index) =>
    index % 2 === 0
      ? pool.unpack(Buffer.from(bzip2), { packing: 'bzip2', size: plain.length })
      : pool.unpack(Buffer.from(xz), { packing: 'xz', size: plain.length }),
  );
  for (const bytes of await Promise.all(jobs)) t.is(difference(bytes, plain), undefined);
  t.is(pool.size, 2);
});

test('what is damaged fails alone', async (t) => {
  if (!canRun(t, 'bzip2')) return;
  const pool = new UnpackPool({ threads: 1 });
  const plain = soft(2, 100_000);
  const bzip2 = await runBytes('bzip2', ['-c'], plain);
  const bad = Buffer.from(bzip2);
  bad.fill(0x55, 2000, 2100);
  const job = { packing: 'bzip2', size: plain.length } as const;
  const [failed, good] = await Promise.allSettled([
    pool.unpack(bad, job),
    pool.unpack(Buffer.from(bzip2), job),
  ]);
  t.regex(String(failed.status === 'rejected' && failed.reason), /bzip2: /);
  t.is(good.status, 'fulfilled');
  const longer = pool.unpack(Buffer.from(bzip2), { ...job, size: plain.length - 1 });
  t.regex((await t.throwsAsync(longer)).message, /more than 99999 bytes/);
});

test('small blocks of one turn go together, and what is damaged among them fails alone', async (t) => {
  const pool = new UnpackPool({ threads: 2 });
  const blocks = Array.from({ length: 40 }, (_, index) => soft(10 + index, index === 7 ? MIB : 65_536));
  const pack = { deflate: deflateRawSync, zlib: deflateSync, zstd: zstdCompressSync } as const;
  for (const packing of ['deflate', 'zlib', 'zstd'] as const) {
    const jobs = blocks.map((plain, index) => {
      const packed = Buffer.from(pack[packing](plain));
      if (index === 3) packed.fill(0xff, 20);
      return pool.unpack(packed, { packing, size: plain.length + (index === 5 ? 1 : 0) });
    });
    for (const [index, result] of (await Promise.allSettled(jobs)).entries()) {
      t.is(result.status, index === 3 || index === 5 ? 'rejected' : 'fulfilled', `${packing} ${index}`);
      const plain = blocks[index];
      if (result.status === 'fulfilled' && plain !== undefined)
        t.is(difference(result.value, plain), undefined);
    }
  }
  t.is(pool.size, 2);
});

test('a small block that is alone takes no thread, and what is handed over does not outlive the call', async (t) => {
  const pool = new UnpackPool({ threads: 1 });
  const plain = soft(60, 65_536);
  const job = { packing: 'deflate', size: plain.length } as const;
  t.is(difference(await pool.unpack(deflateRawSync(plain), job), plain), undefined);
  t.is(pool.size, 0);
  const takes = Array.from({ length: 20 }, (_, index) => {
    const content = soft(61 + index, 65_536);
    return pool.unpackTo(deflateRawSync(content), job, (given) => {
      t.is(difference(given, content), undefined);
      if (index === 4) throw new TypeError('not wanted');
    });
  });
  const failed = (await Promise.allSettled(takes)).flatMap(({ status }, index) =>
    status === 'rejected' ? [index] : [],
  );
  t.deepEqual(failed, [4]);
  t.is(pool.size, 1);
});

test('a thread that takes too long is ended, and so is one that has nothing to do', async (t) => {
  if (!canRun(t, 'bzip2')) return;
  const plain = soft(3, 4 * MIB);
  const bzip2 = await runBytes('bzip2', ['-c'], plain);
  const job = { packing: 'bzip2', size: plain.length } as const;
  const hasty = new UnpackPool({ threads: 1, timeout: 1 });
  const error = await t.throwsAsync(hasty.unpack(Buffer.from(bzip2), job));
  t.regex(error.message, /not unpacked within 0.001 s/);
  t.is(hasty.size, 0);
  const idle = new UnpackPool({ threads: 1, idle: 1 });
  await idle.unpack(Buffer.from(bzip2), job);
  while (idle.size > 0) await new Promise((resolve) => void setTimeout(resolve, 5));
  t.is((await idle.unpack(Buffer.from(bzip2), job)).length, plain.length);
});

test('a slow chunk does not hold up a chunk beside it', async (t) => {
  if (!canRun(t, 'bzip2')) return;
  const plain = soft(4, 8 * MIB);
  const beside = soft(5, MIB);
  const path = await rawFile(
    await tempDir(t),
    'a.dmg',
    buildDmg([
      { type: Type.bzip2, sectors: plain.length / 512, packed: await runBytes('bzip2', ['-c'], plain) },
      { type: Type.raw, sectors: beside.length / 512, packed: beside },
    ]),
  );
  const pool = new UnpackPool({ threads: 1 });
  const gate = Promise.withResolvers<void>();
  // However slow this thread is, the other one is slower.
  const slower: UnpackService = {
    async unpack(packed, job) {
      const bytes = await pool.unpack(packed, job);
      await gate.promise;
      return bytes;
    },
    async unpackTo(packed, job, take) {
      await pool.unpackTo(packed, job, take);
      await gate.promise;
    },
    openXzBlock: (setup) => pool.openXzBlock(setup),
  };
  const graph = new Graph({ drivers: [dmgDriver, fileDriver], unpacker: slower });
  t.teardown(() => graph.close());
  const child = await holdImage(graph, path);
  const order: string[] = [];
  const slow = Buffer.alloc(4096);
  const reading = child.read(slow, 0).then(() => order.push('slow'));
  const fast = Buffer.alloc(4096);
  for (let count = 0; count < 20; count += 1) {
    await turn();
    await child.read(fast, plain.length + count * 4096);
    t.is(difference(fast, beside.subarray(count * 4096, count * 4096 + 4096)), undefined);
    order.push('fast');
  }
  gate.resolve();
  await reading;
  t.is(order.at(-1), 'slow');
  t.is(order.length, 21);
  t.is(difference(slow, plain.subarray(0, 4096)), undefined);
});

test('damage in one packed chunk is EIO for its range alone', async (t) => {
  if (!canRun(t, 'bzip2')) return;
  const disk = soft(6, MIB);
  const step = 256 * 1024;
  const pieces = [0, 1, 2, 3].map(async (index) => {
    const packed = await runBytes('bzip2', ['-c'], disk.subarray(index * step, (index + 1) * step));
    if (index === 2) packed.fill(0, 3000, 3100);
    return { type: Type.bzip2, sectors: step / 512, packed };
  });
  const path = await rawFile(await tempDir(t), 'a.dmg', buildDmg(await Promise.all(pieces)));
  const graph = new Graph({ drivers: [dmgDriver, fileDriver], unpacker: new UnpackPool({ threads: 2 }) });
  t.teardown(() => graph.close());
  const child = await holdImage(graph, path);
  for (let at = 0; at < disk.length; at += 65536) {
    const bytes = Buffer.alloc(65536);
    const reading = child.read(bytes, at);
    if (Math.floor(at / step) === 2) t.regex((await t.throwsAsync(reading)).message, /bzip2 chunk at 524288/);
    else await reading.then(() => t.is(difference(bytes, disk.subarray(at, at + 65536)), undefined));
  }
});

/** Loses what it has at its second step, once. */
function forgetful(): UnpackService & { lost: number } {
  const service = {
    ...unpackHere,
    lost: 0,
    openXzBlock(setup: XzBlockSetup): XzBlockSteps {
      const block = unpackHere.openXzBlock(setup);
      let steps = 0;
      return {
        close: () => {
          block.close();
        },
        step(input) {
          steps += 1;
          if (steps !== 2 || service.lost > 0) return block.step(input);
          service.lost += 1;
          return Promise.reject(new UnpackerLost('the thread ended'));
        },
      };
    },
  };
  return service;
}

test('a long block is unpacked in steps, and starts over when the thread that has it is gone', async (t) => {
  if (!canRun(t, 'xz')) return;
  const disk = Buffer.alloc(26 * MIB);
  soft(7, 3 * MIB).copy(disk, 100);
  soft(8, 2 * MIB).copy(disk, 24 * MIB);
  const path = await rawFile(await tempDir(t), 'a.xz', await runBytes('xz', ['-c', '-0', '-T1'], disk));
  const service = forgetful();
  for (const unpacker of [service, new UnpackPool({ threads: 2 })]) {
    const graph = new Graph({ drivers: [xzDriver, fileDriver], unpacker });
    t.teardown(() => graph.close());
    const child = await holdImage(graph, path);
    t.is(difference(await readAll(child, 3 * MIB + 7), disk), undefined);
  }
  t.is(service.lost, 1);
});

test('many readers of large chunks unpack no more at a time than there is memory for', async (t) => {
  const size = 32 * MIB;
  const chunk = { type: Type.bzip2, sectors: size / 512, packed: Buffer.alloc(512, 1) };
  const path = await rawFile(await tempDir(t), 'a.dmg', buildDmg(Array.from({ length: 12 }, () => chunk)));
  let now = 0;
  let most = 0;
  const unpacker: UnpackService = {
    ...unpackHere,
    async unpack(_packed, job) {
      now += job.size;
      most = Math.max(most, now);
      await turn();
      now -= job.size;
      return Buffer.alloc(job.size, 7);
    },
  };
  const graph = new Graph({ drivers: [dmgDriver, fileDriver], unpacker });
  t.teardown(() => graph.close());
  const child = await holdImage(graph, path);
  const reads = Array.from({ length: 12 }, async (_, index) => {
    const bytes = Buffer.alloc(512);
    await child.read(bytes, index * size);
    return bytes[511];
  });
  t.true((await Promise.all(reads)).every((byte) => byte === 7));
  t.true(most <= 128 * MIB, `${most} bytes`);
  t.true(most > size);
});

test('the built command unpacks on threads and ends when it is done', async (t) => {
  if (!canRun(t, 'xz')) return;
  const folder = await tempDir(t);
  const plain = soft(9, MIB);
  const packed = await rawFile(folder, 'a.xz', await runBytes('xz', ['-c', '-0'], plain));
  const target = join(folder, 'a.raw');
  await blockfuse(['convert', '-O', 'raw', packed, target]);
  t.is(difference(await readFile(target), plain), undefined);
});
