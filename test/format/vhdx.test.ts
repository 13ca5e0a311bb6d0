import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { vhdxDriver } from '../../drivers/format/vhdx/driver.ts';
import { encodeHeader, HEADER_PLACES } from '../../drivers/format/vhdx/header.ts';
import { encodeEntry } from '../../drivers/format/vhdx/log-entry.ts';
import { findReplay } from '../../drivers/format/vhdx/log-replay.ts';
import { BlockError } from '../../src/block/errors.ts';
import { NIL_GUID } from '../../src/util/guid.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, rounds, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  createImage,
  hold,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  release,
  sha256,
  survivesMutations,
} from './small-image.ts';
import { forWriting, graphOf, headerOf, SIZE, writtenImage } from './vhdx-images.ts';

const GUID = '01234567-89ab-cdef-0123-456789abcdef';

async function judge(t: ExecutionContext, path: string, wanted: Buffer): Promise<void> {
  await run('qemu-img', ['check', '-f', 'vhdx', path]);
  await run('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', path, `${path}.raw`]);
  t.is(difference(await readFile(`${path}.raw`), wanted), undefined);
}

for (const shape of ['subformat=dynamic', 'subformat=fixed,block_size=1M', 'log_size=4M,block_size=8M']) {
  test(`vhdx: reads what qemu-img wrote, ${shape}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.vhdx');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', '-o', shape, raw, path]);
    const child = await holdImage(graphOf(t), path);
    t.is(child.node.driver.name, 'vhdx');
    t.is(difference(await readAll(child), disk), undefined);
  });
}

const KINDS: { subformat: string; block_size?: number; log_size?: number; logical_sector_size?: string }[] = [
  { subformat: 'dynamic', block_size: MIB },
  { subformat: 'dynamic', logical_sector_size: '4096', log_size: 3 * MIB },
  { subformat: 'fixed', log_size: 2 * MIB },
];

for (const options of KINDS) {
  test(`vhdx: ${JSON.stringify(options)}: an image created and written here is what qemu-img reads`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const path = join(await tempDir(t), 'a.vhdx');
    const graph = graphOf(t);
    await createImage(graph, vhdxDriver, path, { size: SIZE, options });
    // qemu-img 7.2 knows sectors of 512 bytes only
    const known = options.logical_sector_size === undefined;
    const model = new ModelDisk(SIZE);
    const random = new Random(seed(41));
    if (known) await judge(t, path, model.bytes);
    for (let round = 0; round < rounds(3, 20); round += 1) {
      const child = await hold(graph, forWriting(path));
      const disk = childDisk(child, random);
      await exercise(disk, model, {
        random,
        operations: 200,
        concurrency: 6,
        maxLength: 3 * MIB,
        borders: [MIB, 4096],
      });
      await verify(disk, model);
      t.deepEqual((await vhdxDriver.check?.(child.node.impl, { repair: 'none' }))?.messages, []);
      await release(graph, child);
      t.is((await headerOf(path)).log_guid, NIL_GUID);
      if (known) await judge(t, path, model.bytes);
    }
  });
}

test('vhdx: the sample with a dirty log has its guest hash, opened read-only, and is replayed for writing', async (t) => {
  const bytes = sample(t, 'discutils-log-replay.vhdx');
  if (bytes === undefined) return;
  const path = await rawFile(await tempDir(t), 'sample.vhdx', bytes);
  const graph = graphOf(t);
  const child = await holdImage(graph, path);
  const hash = sha256(await readAll(child, 4 * MIB));
  t.is(hash, '3ba3b309425b7ff5e8e0199edceed95226250f880c53b24e8eae93865f3fad5e');
  t.like(await child.node.impl.info?.(), {
    dirty: true,
    formatSpecific: { 'log-state': 'replayed in memory' },
  });
  await release(graph, child);
  t.true(bytes.equals(await readFile(path)));
  const writer = await hold(graph, forWriting(path));
  t.is((await writer.node.impl.info?.())?.formatSpecific?.['log-state'], 'replayed');
  await release(graph, writer);
  t.is((await headerOf(path)).log_guid, NIL_GUID);
  if (canRun(t, 'qemu-img')) await run('qemu-img', ['check', '-f', 'vhdx', path]);
  const again = await holdImage(graph, path);
  t.is(sha256(await readAll(again, 4 * MIB)), hash);
});

test('vhdx: a log of ours is replayed by qemu-img', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const path = join(folder, 'a.vhdx');
  const graph = graphOf(t);
  const model = await writtenImage(graph, path);
  const bytes = await readFile(path);
  const header = await headerOf(path);
  const sectors = [0, 1].map((index) => ({
    offset: header.log_offset + header.log_length + MIB + index * 4096,
    bytes: Buffer.from(
      bytes.subarray(header.log_offset + header.log_length + MIB + index * 4096).subarray(0, 4096),
    ),
  }));
  for (const { offset } of sectors) bytes.fill(0, offset, offset + 4096);
  const entry = encodeEntry({ guid: GUID, sequence: 7n, tail: 0, fileSize: bytes.length, sectors });
  entry.copy(bytes, header.log_offset);
  for (const place of HEADER_PLACES)
    encodeHeader({ ...header, log_guid: GUID, sequence_number: BigInt(place) }).copy(bytes, place);
  const dirty = await rawFile(folder, 'dirty.vhdx', bytes);
  const child = await holdImage(graph, dirty);
  await verify(child, model);
  await release(graph, child);
  await run('qemu-img', ['check', '-r', 'all', '-f', 'vhdx', dirty]);
  await judge(t, dirty, model.bytes);
});

test('vhdx: the log sequence with the highest number counts, from its tail on', (t) => {
  const log = Buffer.alloc(MIB);
  const HUGE = 2n ** 56n;
  const put = (at: number, sequence: number, tail: number, guid = GUID): number => {
    const sectors = [{ offset: sequence * 4096, bytes: Buffer.alloc(4096, sequence) }];
    const entry = encodeEntry({
      guid,
      sequence: HUGE + BigInt(sequence),
      tail,
      fileSize: 5 * MIB + sequence,
      sectors,
    });
    for (let from = 0; from < entry.length; from += 4096) {
      entry.copy(log, (at + from) % log.length, from, from + 4096);
    }
    return (at + entry.length) % log.length;
  };
  t.is(findReplay(log, GUID), undefined);
  put(512 * 1024, 90, 512 * 1024, '11111111-2222-3333-4444-555555555555');
  let at = put(8192, 3, 8192);
  at = put(at, 4, 8192);
  const start = log.length - 12_288;
  let next = put(start, 10, start);
  next = put(next, 11, start + 8192);
  put(next, 12, start + 8192);
  const found = findReplay(log, GUID);
  t.is(found?.sequence, HUGE + 12n);
  t.is(found?.lastFileOffset, 5 * MIB + 12);
  t.deepEqual(
    found?.changes.map(({ offset, bytes }) => [offset / 4096, bytes?.[0]]),
    [
      [11, 11],
      [12, 12],
    ],
  );
  log.fill(0xff, next + 100, next + 104);
  t.is(findReplay(log, GUID)?.sequence, HUGE + 11n);
});

test('vhdx: discarded blocks are given back, and the end of the file is cut', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  await createImage(graph, vhdxDriver, path, { size: 32 * MIB });
  const empty = (await stat(path)).size;
  const child = await hold(graph, forWriting(path));
  const model = new ModelDisk(32 * MIB);
  model.bytes.fill(1);
  await child.write(model.bytes, 0);
  await child.flush();
  await child.discard(4 * MIB, 8 * MIB);
  await child.discard(28 * MIB, 4 * MIB);
  model.zero(4 * MIB, 8 * MIB);
  model.zero(28 * MIB, 4 * MIB);
  await child.flush();
  t.true((await stat(path)).blocks * 512 < 22 * MIB);
  await child.write(Buffer.alloc(MIB, 7), 6 * MIB);
  model.bytes.fill(7, 6 * MIB, 7 * MIB);
  await verify(child, model);
  await release(graph, child);
  t.is((await stat(path)).size, empty + 28 * MIB);
  await judge(t, path, model.bytes);
});

test('vhdx: one good header is enough', async (t) => {
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  const model = await writtenImage(graph, path);
  const bytes = await readFile(path);
  for (const place of [...HEADER_PLACES, 192 * 1024, 256 * 1024]) {
    const bad = Buffer.from(bytes);
    bad.fill(0x33, place + 20, place + 30);
    await writeFile(path, bad);
    const child = await holdImage(graph, path);
    await verify(child, model);
    await release(graph, child);
  }
  bytes.fill(0x33, HEADER_PLACES[0] + 20, HEADER_PLACES[0] + 30);
  bytes.fill(0x33, HEADER_PLACES[1] + 20, HEADER_PLACES[1] + 30);
  await writeFile(path, bytes);
  const error = await t.throwsAsync(holdImage(graph, path), { instanceOf: BlockError });
  t.regex(
    error.message,
    /neither header is valid, header 1: checksum is 0x[0-9a-f]+, must be 0x[0-9a-f]+; header 2/,
  );
});

test.serial('vhdx: damaged images are refused or served', async (t) => {
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  await createImage(graph, vhdxDriver, path, { size: 4 * MIB, options: { block_size: MIB } });
  const child = await hold(graph, forWriting(path));
  await child.write(mixedDisk(5, MIB), MIB);
  await release(graph, child);
  await survivesMutations(t, graph, {
    driver: 'vhdx',
    seed: seed(44),
    path,
    tables: [
      [HEADER_PLACES[0], HEADER_PLACES[0] + 80],
      [192 * 1024, 192 * 1024 + 80],
      [2 * MIB, 2 * MIB + 224],
      [2 * MIB + 65_536, 2 * MIB + 65_536 + 40],
      [3 * MIB, 3 * MIB + 32],
    ],
    writable: true,
  });
});
