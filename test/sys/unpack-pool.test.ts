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
import { zipLibrary } from '../../src/sys/zip-library.ts';
import { decode } from '../../src/util/unpack-decoders.ts';
import { unpackHere, UnpackerLost } from '../../src/util/unpack-service.ts';
import type { UnpackService, XzBlockSetup, XzBlockSteps } from '../../src/util/unpack-service.ts';
import { buildDmg, Type } from '../format/dmg-images.ts';
import { holdImage, MIB, rawFile, readAll } from '../format/small-image.ts';
import { difference } from '../helpers/model-disk.ts';
import { blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
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

const PACK = { deflate: deflateRawSync, zlib: deflateSync, zstd: zstdCompressSync } as const;

for (const library of ['of Node', 'none'] as const) {
  test(`zlib and zstd: many blocks at once, what is damaged fails alone (library: ${library})`, async (t) => {
    const pool = new UnpackPool({ threads: 2 }, library === 'none' ? library : zipLibrary);
    const blocks = Array.from({ length: 40 }, (_, index) => soft(10 + index, index === 7 ? MIB : 65_536));
    for (const packing of ['deflate', 'zlib', 'zstd'] as const) {
      const jobs = blocks.map((plain, index) => {
        const packed = Buffer.from(PACK[packing](plain));
        if (index === 3) packed.fill(0xff, 20);
        if (index === 11) return pool.unpack(packed.subarray(0, -5), { packing, size: plain.length });
        return pool.unpack(packed, { packing, size: plain.length + sizeError(index) });
      });
      for (const [index, result] of (await Promise.allSettled(jobs)).entries()) {
        const bad = [3, 5, 6, 11].includes(index);
        t.is(result.status, bad ? 'rejected' : 'fulfilled', `${packing} ${index}`);
        if (result.status === 'rejected') t.true(result.reason instanceof RangeError, String(result.reason));
        else t.is(difference(result.value, blocks[index] ?? Buffer.alloc(0)), undefined);
      }
    }
    t.is(pool.size, library === 'none' ? 2 : 0);
  });

  test(`blocks are unpacked to where they are wanted, and nothing beside it is touched (library: ${library})`, async (t) => {
    const pool = new UnpackPool({ threads: 2 }, library === 'none' ? library : zipLibrary);
    const memory = Buffer.alloc(32 * 4096 + 2, 0xaa);
    const blocks = Array.from({ length: 32 }, (_, index) => soft(80 + index, 4096));
    const jobs = blocks.map(async (plain, index) => {
      const packing = index % 2 === 0 ? 'deflate' : 'zstd';
      // As in an image, where something else follows.
      const packed = Buffer.concat([PACK[packing](plain), Buffer.alloc(100, index)]);
      const out = memory.subarray(1 + index * 4096, 1 + (index + 1) * 4096);
      await pool.unpackInto(packed, { packing, size: 4096 }, out);
    });
    await Promise.all(jobs);
    t.is(difference(memory.subarray(1, -1), Buffer.concat(blocks)), undefined);
    t.deepEqual([memory[0], memory.at(-1)], [0xaa, 0xaa]);
  });
}

/** Blocks 5 and 6 unpack to one byte less and one more than the job says. */
const sizeError = (index: number): number => (index === 5 ? 1 : index === 6 ? -1 : 0);

test('zlib and zstd called directly say of damaged bytes what node:zlib says', async (t) => {
  if (zipLibrary === undefined) {
    t.fail('this Node does not show zlib and Zstandard');
    return;
  }
  const random = new Random(seed(21));
  const verdicts = { good: 0, bad: 0 };
  for (let round = 0; round < 600; round += 1) {
    const packing = (['deflate', 'zlib', 'zstd'] as const)[round % 3] ?? 'zlib';
    const plain = round % 2 === 0 ? random.softBytes(random.between(1, 9000)) : soft(round, 5000);
    const packed = Buffer.from(PACK[packing](plain));
    for (let count = random.between(0, 3); count > 0; count -= 1)
      packed[random.below(packed.length)] = random.below(256);
    const job = { packing, size: plain.length };
    const wanted = verdictOf(() => decode(packed, job));
    const now = Buffer.alloc(plain.length);
    const here = verdictOf(() => {
      zipLibrary?.unpackNow(packed, packing, now);
      return now;
    });
    const later = Buffer.alloc(plain.length);
    const background = await zipLibrary.unpackInBackground(packed, packing, later).then(
      () => later,
      () => undefined,
    );
    t.deepEqual(here, wanted, `round ${round}, ${packing}`);
    t.deepEqual(background, wanted, `round ${round}, ${packing}`);
    verdicts[wanted === undefined ? 'bad' : 'good'] += 1;
  }
  t.true(verdicts.good > 100 && verdicts.bad > 100, JSON.stringify(verdicts));
});

function verdictOf(unpack: () => Buffer): Buffer | undefined {
  try {
    return unpack();
  } catch {
    return undefined;
  }
}

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
    unpackInto: (packed, job, out) => pool.unpackInto(packed, job, out),
    openInflateScan: () => pool.openInflateScan(),
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
