/** Bitmaps of qcow2 images that break a rule, that other programs have left behind, or that can't be stored. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Graph } from '../../src/block/graph.ts';
import type { Node } from '../../src/block/node.ts';
import { runActions } from '../../src/control/actions/action.ts';
import { addBitmap, removeBitmap } from '../../src/control/actions/bitmap.ts';
import { extentsOf } from '../helpers/dirty-extents.ts';
import { attemptBlockfuse } from '../helpers/program.ts';
import { Random } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { RecordedDisk, recordedDriver, Recorder } from './recorded-disk.ts';

const CLUSTER = 65536;
const EXTENSION = Buffer.from('2385287500000018', 'hex');

/** An image with bitmaps `one` and `two`; in `one` a piece has a cluster. */
async function makeImage(t: ExecutionContext): Promise<string> {
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '64M']);
  await run('qemu-img', ['bitmap', '--add', image, 'one']);
  await run('qemu-img', ['bitmap', '--add', '--disable', image, 'two']);
  await run('qemu-io', ['-c', 'write -P 1 1M 100k', image]);
  return image;
}

/** Places of what a bitmap is made of. */
interface Places {
  readonly extension: number;
  readonly directory: number;
  readonly second: number;
  readonly table: number;
}

function placesIn(bytes: Buffer): Places {
  const extension = bytes.indexOf(EXTENSION) + 8;
  const directory = Number(bytes.readBigUInt64BE(extension + 16));
  return {
    extension,
    directory,
    second: directory + 32,
    table: Number(bytes.readBigUInt64BE(directory)),
  };
}

async function openNode(t: ExecutionContext, image: string, options = {}): Promise<Node> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close().catch(() => undefined));
  return graph.openImage(image, 'qcow2', options);
}

type Damage = (bytes: Buffer, places: Places) => void;

const refuses = test.macro(async (t: ExecutionContext, damage: Damage, message: RegExp) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t);
  const bytes = await readFile(image);
  damage(bytes, placesIn(bytes));
  await writeFile(image, bytes);
  const error = await t.throwsAsync(openNode(t, image));
  t.true(error instanceof BlockError);
  t.regex(error.message, message);
  const node = await openNode(t, image, { 'read-only': true });
  t.is(node.watch, undefined, 'it can be read, without bitmaps');
});

const u32 =
  (part: keyof Places, offset: number, value: number): Damage =>
  (bytes, places) =>
    bytes.writeUInt32BE(value, places[part] + offset);
const u64 =
  (part: keyof Places, offset: number, value: bigint): Damage =>
  (bytes, places) =>
    bytes.writeBigUInt64BE(value, places[part] + offset);
const u8 =
  (part: keyof Places, offset: number, value: number): Damage =>
  (bytes, places) =>
    bytes.writeUInt8(value, places[part] + offset);

test('no bitmaps', refuses, u32('extension', 0, 0), /nb_bitmaps is 0, must be 1 to 65535/);
test('too many bitmaps', refuses, u32('extension', 0, 65536), /nb_bitmaps is 65536, must be/);
test('more bitmaps than entries', refuses, u32('extension', 0, 3), /bitmap_directory_size is 64, must be 96/);
test('fewer than entries', refuses, u32('extension', 0, 1), /has 64 bytes, its 1 entries take 32/);
test(
  'reserved field',
  refuses,
  u32('extension', 4, 7),
  /reserved field of the bitmaps extension is 7, must be 0/,
);
test('directory too long', refuses, u64('extension', 8, 1n << 40n), /bitmap_directory_size is 1099511627776/);
test(
  'directory unaligned',
  refuses,
  u64('extension', 16, 70000n),
  /directory is at 70000, must be at a multiple/,
);
test(
  'directory in the header',
  refuses,
  u64('extension', 16, 0n),
  /directory is at 0, must be at a multiple/,
);
test('directory past the end', refuses, u64('extension', 16, 1n << 40n), /but the file ends at/);
test('over 2^53', refuses, u64('extension', 16, 1n << 60n), /directory is at 1152921504606846976, must be/);
test('table unaligned', refuses, u64('directory', 0, 65537n), /table of bitmap "one" is at 65537, must be/);
test('table past the end', refuses, u64('second', 0, 1n << 40n), /table of bitmap "two" is at 1099511627776/);
test(
  'table of no entries',
  refuses,
  u32('directory', 8, 0),
  /bitmap_table_size of bitmap "one" is 0, must be/,
);
test('table too large', refuses, u32('directory', 8, 2 ** 31), /"one" is 2147483648, must be 1 to 4194304/);
test(
  'table of another disk',
  refuses,
  u32('second', 8, 2),
  /is 2, must be 1 for 67108864 bytes at a granularity/,
);
test('unknown flags', refuses, u32('directory', 12, 8), /bitmap "one" has flags 0x8, must have none but 0x7/);
test('type', refuses, u8('second', 16, 2), /bitmap "two" is of type 2, must be 1 \(dirty tracking bitmap\)/);
test(
  'granularity',
  refuses,
  u8('directory', 17, 8),
  /granularity_bits of bitmap "one" is 8, must be 9 to 31/,
);
test('no name', refuses, u8('directory', 19, 0), /name_size of bitmap 0 is 0, must be 1 to 1023/);
test('name too long', refuses, u8('directory', 18, 0xff), /has 65\d+ bytes, but only 64 are left/);
test(
  'extra data too long',
  refuses,
  u32('second', 20, 1000),
  /entry 1 .* has 1027 bytes, but only 32 are left/,
);
test('NUL in a name', refuses, u8('directory', 25, 0), /has a NUL character/);
test(
  'the same name twice',
  refuses,
  (bytes, { directory, second }) => bytes.copy(bytes, second + 24, directory + 24, directory + 27),
  /two bitmaps are named "one", names must be unique/,
);
test('piece unaligned', refuses, u64('table', 0, 0x10200n), /piece 0 of bitmap "one" is at 66048, must be/);
test(
  'reserved bits of a piece',
  refuses,
  u64('table', 0, 1n << 56n),
  /piece 0 of bitmap "one" is at 72057594/,
);
test(
  'piece past the end',
  refuses,
  u64('table', 0, 1n << 40n),
  /piece 0 of bitmap "one" is at 1099511627776/,
);
test(
  'piece where the directory is',
  refuses,
  (bytes, { table, directory }) => bytes.writeBigUInt64BE(BigInt(directory), table),
  /a piece of bitmap "one" is at \d+, where the bitmap directory is/,
);
test(
  'piece where the L1 table is',
  refuses,
  (bytes, { table }) => bytes.writeBigUInt64BE(bytes.readBigUInt64BE(40), table),
  /a piece of bitmap "one" is at \d+, where the L1 table is/,
);

test('check names a damaged directory, and repairs by giving the bitmaps up', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t);
  const bytes = await readFile(image);
  bytes.writeUInt8(5, placesIn(bytes).second + 16);
  await writeFile(image, bytes);
  const found = await attemptBlockfuse(['check', image]);
  t.is(found.code, 1, `as qemu-img: it can not be checked as a whole; ${found.stderr}`);
  t.regex(found.stdout, /bitmap "two" is of type 5/);
  await attemptBlockfuse(['check', '--repair', 'all', image]);
  t.is((await attemptBlockfuse(['check', image])).code, 0);
  await t.notThrowsAsync(run('qemu-img', ['check', image]));
  t.truthy(await openNode(t, image));
});

test('a bitmap that is larger than QEMU takes is refused, not loaded', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = join(await tempDir(t), 'image.qcow2');
  await run('qemu-img', ['create', '-f', 'qcow2', image, '4T']);
  await run('qemu-img', ['bitmap', '--add', '-g', '4096', image, 'fine']);
  const bytes = await readFile(image);
  bytes.writeUInt8(9, placesIn(bytes).directory + 17);
  await writeFile(image, bytes);
  const error = await t.throwsAsync(openNode(t, image));
  t.regex(error.message, /bitmap "fine" would take 1073741824 bytes, must take at most 536870912/);
});

test('what knows no bitmaps has written: they are inconsistent, and their clusters are left alone', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t);
  const bytes = await readFile(image);
  bytes.writeBigUInt64BE(0n, 88);
  await writeFile(image, bytes);
  await run('qemu-img', ['check', '-r', 'leaks', image]).catch(() => undefined);
  await run('qemu-io', ['-c', 'read 0 512', '-r', image]);
  await writeFile(image, bytes);
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const node = await graph.openImage(image, 'qcow2', { 'node-name': 'n' });
  const door = graph.attachRoot(node, { name: 'test', used: 15 });
  t.deepEqual(
    [...(node.watch?.bitmaps.values() ?? [])].map(({ name, inconsistent }) => [name, inconsistent]),
    [
      ['one', true],
      ['two', true],
    ],
  );
  await door.write(Buffer.alloc(CLUSTER * 5, 7), 0);
  const undone = [
    removeBitmap(graph, { node: 'n', name: 'two' }),
    removeBitmap(graph, { node: 'n', name: 'no' }),
  ];
  await t.throwsAsync(runActions(graph, undone));
  await runActions(graph, [removeBitmap(graph, { node: 'n', name: 'one' })]);
  const fresh = { node: 'n', name: 'three', persistent: true, disabled: false };
  await runActions(graph, [addBitmap(graph, fresh)]);
  await door.write(Buffer.alloc(CLUSTER, 7), CLUSTER * 9);
  await graph.close();
  t.true([0, 3].includes((await attempt('qemu-img', ['check', image])).code));
  const { stdout } = await run('qemu-img', ['info', '--output=json', image]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps: unknown } } };
  t.deepEqual(info['format-specific'].data.bitmaps, [
    { flags: ['in-use'], name: 'two', granularity: 65536 },
    { flags: ['auto'], name: 'three', granularity: 65536 },
  ]);
});

test('extra data: kept, and the bitmap used only where that is said to be right', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  for (const flags of [2, 6]) {
    const image = await makeImage(t);
    const bytes = await readFile(image);
    const { directory } = placesIn(bytes);
    bytes.writeUInt32BE(flags, directory + 12);
    bytes.writeUInt32BE(5, directory + 20);
    bytes.write('extraone', directory + 24);
    await writeFile(image, bytes);
    const graph = new Graph({ drivers: DRIVERS });
    t.teardown(() => graph.close());
    const node = await graph.openImage(image, 'qcow2', { 'node-name': 'n' });
    const door = graph.attachRoot(node, { name: 'test', used: 15 });
    t.is(node.watch?.bitmaps.get('one')?.inconsistent, flags === 2);
    await door.write(Buffer.alloc(10, 7), 0);
    await graph.close();
    const after = await readFile(image);
    const place = placesIn(after).directory;
    t.is(after.toString('utf8', place + 24, place + 32), 'extraone');
    t.is(after.readUInt32BE(place + 12), flags === 2 ? 3 : 6, 'in use for good, or stored');
    t.is((await attemptBlockfuse(['check', image])).code, 0);
  }
});

/** Once armed, the n-th write or flush fails, and all after it where the disk stays full. */
class FailingDisk extends RecordedDisk {
  left = Infinity;
  stays = false;
  code: 'EIO' | 'ENOSPC' = 'EIO';
  failures = 0;

  override tryWrite(...given: Parameters<RecordedDisk['tryWrite']>): boolean {
    return this.left === Infinity && super.tryWrite(...given);
  }

  override async write(bytes: Buffer, offset: number): Promise<void> {
    this.count();
    await super.write(bytes, offset);
  }

  override async flush(): Promise<void> {
    this.count();
    await super.flush();
  }

  private count(): void {
    this.left -= 1;
    if (this.left > 0 || (this.left < 0 && !this.stays)) return;
    this.failures += 1;
    throw new BlockError(this.code, 'Cannot write: as asked');
  }
}

const stores = test.macro(async (t: ExecutionContext, code: 'EIO' | 'ENOSPC', stays: boolean) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const image = await makeImage(t);
  const start = await readFile(image);
  let failed = 0;
  for (let number = 1; number <= 60; number += 1) {
    const recorder = new Recorder();
    const file = new FailingDisk(recorder, start, new Random(number));
    const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
    const below = { driver: 'recorded-image', 'node-name': 'file' };
    const node = await graph.open({ driver: 'qcow2', 'node-name': 'n', file: below });
    const door = graph.attachRoot(node, { name: 'test', used: 15 });
    await door.write(Buffer.alloc(70_000, 5), 20 * CLUSTER + 100);
    const fresh = { node: 'n', name: 'three', persistent: true, disabled: false };
    await runActions(graph, [addBitmap(graph, fresh)]);
    await door.write(Buffer.alloc(10, 5), 40 * CLUSTER);
    await door.flush();
    Object.assign(file, { code, stays, left: number });
    const outcome = await graph.close().then(
      () => undefined,
      (error: unknown) => error,
    );
    t.is(outcome !== undefined, file.failures > 0, `write ${number}: ${String(outcome)}`);
    await writeFile(image, recorder.afterCut(0, recorder.events.length, new Random(0)));
    const check = await attempt('qemu-img', ['check', image]);
    t.true([0, 3].includes(check.code), `write ${number}: ${check.stdout}${check.stderr}`);
    const after = await openNode(t, image, { 'read-only': true });
    const one = after.watch?.bitmaps.get('one');
    t.true(one?.inconsistent === true || extentsOf(one ?? fail()).length === 3, `write ${number}`);
    const bytes = Buffer.alloc(70_000);
    await after.read(bytes, 20 * CLUSTER + 100);
    t.true(bytes.equals(Buffer.alloc(70_000, 5)));
    if (outcome === undefined) break;
    failed += 1;
  }
  t.true(failed > 5, `${failed} failed`);
  t.log(`${failed} places`);
});

const fail = (): never => {
  throw new Error('the bitmap is gone');
};

test.serial('storing, one write fails with EIO', stores, 'EIO', false);
test.serial('storing, one write fails with ENOSPC', stores, 'ENOSPC', false);
test.serial('storing, no space any more', stores, 'ENOSPC', true);
