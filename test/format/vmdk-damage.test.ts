/** Descriptors, headers and tables that nobody should trust. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { decode, encode } from '../../drivers/format/vmdk/layout.ts';
import { isDescriptor, parseDescriptor } from '../../drivers/format/vmdk/descriptor.ts';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { SPARSE_HEADER } from '../../drivers/format/vmdk/sparse-header.ts';
import type { SparseHeader } from '../../drivers/format/vmdk/sparse-header.ts';
import { createImage } from '../../src/cli/create-image.ts';
import type { CheckOptions, CheckResult } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  graphWith,
  hold,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  release,
  survivesMutations,
} from './small-image.ts';
import { cowd, descriptor, forWriting, seSparse, writeDescriptor } from './vmdk-fixtures.ts';

const refusesText = test.macro(async (t: ExecutionContext, lines: readonly string[], wanted: RegExp) => {
  const folder = await tempDir(t);
  await rawFile(folder, 'a.bin', Buffer.alloc(8192));
  const path = await writeDescriptor(folder, 'bad.vmdk', descriptor('custom', lines));
  const started = process.cpuUsage();
  const error = await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path, 'vmdk'), {
    instanceOf: BlockError,
  });
  t.true(error.message.length < 500, 'the message stays readable');
  t.regex(error.message, wanted);
  t.true(process.cpuUsage(started).user < 2_000_000, 'microseconds of the processor');
});

const MOST = 17592186044415;
for (const [title, lines, wanted] of [
  [
    'a negative size',
    ['RW -8 FLAT "a.bin" 0'],
    /line 8 of the descriptor is "RW -8 FLAT .*size must be a whole number/,
  ],
  [
    'a size that overflows',
    ['RW 99999999999999999999 FLAT "a.bin" 0'],
    new RegExp(`whole number of sectors up to ${MOST}`),
  ],
  ['a fractional size', ['RW 8.5 FLAT "a.bin" 0'], /whole number/],
  ['a hexadecimal size', ['RW 0x10 FLAT "a.bin" 0'], /whole number/],
  ['a negative offset', ['RW 8 FLAT "a.bin" -1'], /offset must be a whole number/],
  ['an offset that overflows', ['RW 8 FLAT "a.bin" 18446744073709551615'], /offset must be a whole number/],
  ['an unknown type', ['RW 8 FLOPPY "a.bin"'], /type must be one of FLAT, SPARSE/],
  ['no file name', ['RW 8 FLAT'], /file name in quotes/],
  ['an open quote', ['RW 8 FLAT "a.bin'], /file name in quotes/],
  ['a name without quotes', ['RW 8 FLAT a.bin 0'], /must be in quotes/],
  ['an empty name', ['RW 8 FLAT "" 0'], /file name in quotes/],
  ['nothing but the access', ['RW '], /no extents/],
  [
    'an unknown access',
    ['RX 8 FLAT "a.bin" 0', 'RW 8 FLAT "a.bin" 0'],
    /access must be RW, RDONLY or NOACCESS/,
  ],
  ['no extents', [], /the descriptor has no extents, must have one or more/],
  ['a line of half a megabyte', [`RW 8 FLAT${' '.repeat(500_000)}x`], /\.\.\.", /],
  [
    'extents that are too large together',
    Array.from({ length: 3 }, () => `RW ${MOST} ZERO`),
    /its extents have/,
  ],
  [
    'a file that is too short',
    ['RW 80 FLAT "a.bin" 0'],
    /it has 8192 bytes, must have 40960 as the descriptor says/,
  ],
  ['a flat file called sparse', ['RW 8 SPARSE "a.bin"'], /must be a SPARSE extent/],
] as const) {
  test(`vmdk: a descriptor with ${title} is refused, saying so`, refusesText, lines, wanted);
}

test('vmdk: a descriptor of too many bytes or extents is refused', async (t) => {
  const folder = await tempDir(t);
  const many = Array.from({ length: 40_000 }, () => 'RW 1 ZERO');
  const path = await writeDescriptor(folder, 'many.vmdk', descriptor('custom', many));
  await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path), { message: /more than 32768 extents/ });
  await writeDescriptor(folder, 'many.vmdk', `${descriptor('custom', many)}${'#'.repeat(MIB)}`);
  await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path), {
    message: /the descriptor has \d+ bytes, must have at most/,
  });
});

test('vmdk: a file with grain tables that two extents name is refused', async (t) => {
  const folder = await tempDir(t);
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: join(folder, 's.vmdk'), format: 'vmdk', size: MIB, options: {} });
  const sparse = 'RW 2048 SPARSE "s.vmdk"';
  for (const lines of [
    [sparse, sparse],
    [sparse, 'RW 2048 SPARSE "./s.vmdk"'],
    [sparse, 'RW 8 FLAT "s.vmdk" 0'],
    ['RW 8 FLAT "s.vmdk" 0', sparse],
  ]) {
    const path = await writeDescriptor(folder, 'a.vmdk', descriptor('custom', lines));
    const error = await t.throwsAsync(holdImage(graph, path), { instanceOf: BlockError });
    t.regex(
      error.message,
      /extents.1 is in ".*\/s.vmdk", as is another extent, a file with grain tables must/,
    );
  }
});

test('vmdk: an encrypted disk is refused by name', async (t) => {
  const folder = await tempDir(t);
  const more = ['encryptionKeys="vmware:key/list/(pair/(null))"'];
  const path = await writeDescriptor(folder, 'a.vmdk', descriptor('custom', ['RW 8 ZERO'], more));
  const error = await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path));
  t.regex(error.message, /the descriptor has "encryptionkeys", encrypted disks are not supported/);
});

test('vmdk: descriptors are parsed whatever their line ends, case and encoding', (t) => {
  const text = Buffer.concat([
    Buffer.from(
      '\n# comment\r\n# Disk DescriptorFile\r\nversion=1\r\nencoding="windows-1252"\r\ncid=0a\r\nPARENTCID=ffffffff\r\n',
    ),
    Buffer.from(
      'createtype = "custom" \r\nrw   8\tFlat "gr\xfc\xdfe.bin" 3 partitionUUID x\r\nRW 9 ZERO\r\nRW 1 FLAT "',
      'latin1',
    ),
    Buffer.from('b.bin"\r\n\0\0\0RW 5 ZERO\n'),
  ]);
  t.true(isDescriptor(text));
  const { extents, cid, parentCid, createType } = parseDescriptor(text, 'x');
  t.deepEqual([cid, parentCid, createType], [10, 0xffffffff, 'custom']);
  t.deepEqual(
    extents.map(({ filename, sectors, offset }) => [filename, sectors, offset]),
    [
      ['grüße.bin', 8, 3],
      [undefined, 9, 0],
      ['b.bin', 1, 0],
    ],
  );
  const marked = Buffer.concat([Buffer.from('\ufeff# Disk DescriptorFile\nCID=7\n')]);
  t.true(isDescriptor(marked));
  t.is(parseDescriptor(marked, 'x').cid, 7);
  t.false(isDescriptor(Buffer.from('version=1\nname=x\n')));
  t.false(isDescriptor(Buffer.from('#!/bin/sh\n# nothing\necho\n')));
});

test('vmdk: what is wrong in a header is named with value and expectation', async (t) => {
  const folder = await tempDir(t);
  const good = join(folder, 'good.vmdk');
  await createImage(graphWith(t, vmdkDriver), {
    filename: good,
    format: 'vmdk',
    size: 40 * MIB,
    options: {},
  });
  const bytes = await readFile(good);
  t.is(decode(SPARSE_HEADER, bytes).capacity, (40 * MIB) / 512);
  const cases: [Partial<SparseHeader>, RegExp][] = [
    [{ version: 9 }, /version is 9, must be 1 to 3/],
    [{ flags: 0x40003 }, /flags are 0x40003, 0x40000 is not supported/],
    [{ capacity: 2 ** 60 }, /capacity is 1152921504606847000, must be at most/],
    [{ capacity: 2 ** 40 }, /the grain directory has \d+ entries|must lie inside the file/],
    [{ capacity: 2 ** 42 }, /the grain directory has 67108864 entries, must be at most 16777216/],
    [{ grainSize: 0 }, /grainSize is 0, must be a power of two/],
    [{ grainSize: 100 }, /grainSize is 100, must be a power of two/],
    [{ grainSize: 2 ** 40 }, /grainSize is 1099511627776, must be a power of two up to 32768/],
    [{ numGTEsPerGT: 0 }, /numGTEsPerGT is 0, must be 1 to 16384/],
    [{ gdOffset: 2 ** 50 }, /gdOffset is 1125899906842624 with 2 entries, must lie inside the file/],
    [{ gdOffset: 2 ** 64 }, /there is no footer at byte \d+, the header says that there must be one/],
    [{ rgdOffset: 2 ** 40 }, /rgdOffset is 1099511627776/],
    [{ descriptorOffset: 2 ** 30 }, /the descriptor is at byte 549755813888/],
    [{ descriptorSize: 2 ** 30 }, /must have at most 1048576 bytes/],
    [{ nonEndLineChar: 13 }, /the end of line bytes are 0a 0d 0d 0a, must be 0a 20 0d 0a/],
    [{ flags: 0x30001, compressAlgorithm: 7 }, /compressAlgorithm is 7, must be 1/],
    [{ capacity: 0, descriptorOffset: 0 }, /neither a capacity nor a descriptor/],
  ];
  for (const [fields, wanted] of cases) {
    const bad = Buffer.from(bytes);
    encode(SPARSE_HEADER, bad, fields);
    const path = await rawFile(folder, 'bad.vmdk', bad);
    const error = await t.throwsAsync(holdImage(graphWith(t, vmdkDriver), path, 'vmdk'), {
      instanceOf: BlockError,
    });
    t.regex(error.message, wanted, JSON.stringify(fields));
  }
});

test('vmdk: tables that overlap are refused for writing, and read', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, 'a.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: path, format: 'vmdk', size: 100 * MIB, options: {} });
  const bytes = await readFile(path);
  const gd = Number(bytes.readBigUInt64LE(56)) * 512;
  const cases: [number, RegExp][] = [
    [bytes.readUInt32LE(gd) + 1, /two grain tables overlap at byte \d+, must be apart/],
    [3, /its table must lie from byte/],
    [Number(bytes.readBigUInt64LE(56)), /in a grain directory|overlap/],
    [0, /entry 1 is 0 in the grain directory and \d+ in the redundant one/],
    [2 ** 31, /entry 1 of the grain directory is 2147483648/],
  ];
  for (const [entry, wanted] of cases) {
    bytes.writeUInt32LE(entry, gd + 4);
    const bad = await rawFile(folder, 'bad.vmdk', bytes);
    const error = await t.throwsAsync(hold(graph, forWriting(bad)), { instanceOf: BlockError });
    t.regex(error.message, wanted);
    const child = await holdImage(graph, bad);
    await child.read(Buffer.alloc(4096), 0);
    await release(graph, child);
  }
});

test('vmdk: a grain in the tables of the file, or behind its end, is refused when it is met', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, 'a.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: path, format: 'vmdk', size: 8 * MIB, options: {} });
  const bytes = await readFile(path);
  const table = bytes.readUInt32LE(Number(bytes.readBigUInt64LE(56)) * 512) * 512;
  bytes.writeUInt32LE(1, table);
  bytes.writeUInt32LE(1_000_000, table + 4);
  const bad = await rawFile(folder, 'bad.vmdk', bytes);
  const child = await hold(graph, forWriting(bad));
  const piece = Buffer.alloc(512);
  for (const offset of [0, 65_536]) {
    await t.throwsAsync(child.read(piece, offset), {
      code: 'EIO',
      message: /grain \d is at byte \d+, must be from byte/,
    });
    await t.throwsAsync(child.write(piece, offset), { code: 'EIO', message: /grain \d is at byte/ });
  }
  // A new grain could come to lie where the second entry says.
  await t.throwsAsync(child.write(piece, 131_072), { code: 'EIO', message: /ends at 65536: it was cut off/ });
  await release(graph, child);
});

test('vmdk: check finds what is wrong with the tables, and makes the redundant ones right', async (t) => {
  const folder = await tempDir(t);
  const path = join(folder, 'a.vmdk');
  const graph = graphWith(t, vmdkDriver);
  await createImage(graph, { filename: path, format: 'vmdk', size: 40 * MIB, options: {} });
  const filling = await hold(graph, forWriting(path));
  for (let at = 0; at < 40; at += 1) await filling.write(Buffer.alloc(512, 1), at * MIB);
  const check = async (repair: CheckOptions['repair']): Promise<CheckResult | undefined> => {
    const child = await hold(graph, forWriting(path));
    const result = await vmdkDriver.check?.(child.node.impl, { repair });
    await release(graph, child);
    return result;
  };
  await release(graph, filling);
  const clean = await check('none');
  t.deepEqual([clean?.corruptions, clean?.allocatedClusters, clean?.totalClusters], [0, 40, 640]);
  const bytes = await readFile(path);
  const redundant = bytes.readUInt32LE(Number(bytes.readBigUInt64LE(48)) * 512) * 512;
  bytes.writeUInt32LE(7, redundant + 4);
  await rawFile(folder, 'a.vmdk', bytes);
  const reading = await hold(graph, { ...forWriting(path), 'read-only': true });
  const seen = await vmdkDriver.check?.(reading.node.impl, { repair: 'all' });
  t.is(seen?.corruptions, 1, 'an image that is only read, too');
  await release(graph, reading);
  t.regex(
    (await check('none'))?.messages.join() ?? '',
    /redundant grain table 0 of ".*a.vmdk" is not the same/,
  );
  t.is((await check('all'))?.corruptionsFixed, 1);
  t.is((await check('none'))?.corruptions, 0);
  const table = bytes.readUInt32LE(Number(bytes.readBigUInt64LE(56)) * 512) * 512;
  bytes.writeUInt32LE(bytes.readUInt32LE(table), table + 4);
  bytes.writeUInt32LE(9, table + 8);
  bytes.writeUInt32LE(0xffffff, table + 12);
  await rawFile(folder, 'a.vmdk', bytes);
  const messages = (await check('none'))?.messages.join('; ') ?? '';
  await rawFile(folder, 'cut.vmdk', bytes.subarray(0, bytes.length - 4096));
  const cut = await hold(graph, { ...forWriting(join(folder, 'cut.vmdk')), 'read-only': true });
  const short = await vmdkDriver.check?.(cut.node.impl, { repair: 'none' });
  t.regex(short?.messages.join() ?? '', /grain 624 of .* is cut off: it has 61440 of 65536 bytes/);
  await release(graph, cut);
  for (const wanted of [
    /two grains .* share byte/,
    /grain 2 .* is at byte 4608, must be from/,
    /grain 3 .* is at byte/,
  ]) {
    t.regex(messages, wanted);
  }
});

for (const [name, create, writable] of [
  ['sparse', '-osubformat=monolithicSparse', true],
  ['zeroed grains', '-ozeroed_grain=on', true],
  ['streams', '-osubformat=streamOptimized', false],
] as const) {
  test.serial(`vmdk: damaged images are refused or served: ${name}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const path = join(folder, 'a.vmdk');
    const raw = await rawFile(folder, 'base.raw', mixedDisk(15, 2 * MIB));
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', create, raw, path]);
    const bytes = await readFile(path);
    const directory = Number(bytes.readBigUInt64LE(56)) * 512;
    const table = bytes.readUInt32LE(directory) * 512;
    await survivesMutations(t, graphWith(t, vmdkDriver), {
      driver: 'vmdk',
      seed: seed(44),
      path,
      tables: [
        [0, 80],
        [512, 900],
        [directory, directory + 8],
        [table, table + 130],
        [65_536 * 2, bytes.length],
      ],
      writable,
    });
  });
}

test.serial('vmdk: damaged images are refused or served: COWD and seSparse', async (t) => {
  const folder = await tempDir(t);
  const disk = mixedDisk(16, 3 * MIB);
  const delta = await rawFile(folder, 'a-delta.vmdk', cowd(disk, { grainSectors: 8 }));
  const graph = graphWith(t, vmdkDriver);
  const common = { driver: 'vmdk', seed: seed(45) };
  const cowdTables = [
    [0, 48],
    [2048, 2052],
    [2560, 2800],
  ] as const;
  await survivesMutations(t, graph, { ...common, path: delta, tables: cowdTables, writable: true });
  const wide = await rawFile(folder, 'a-sesparse.vmdk', seSparse(disk));
  const wideTables = [
    [0, 208],
    [512, 544],
    [4096, 4104],
    [16 * 512 + 32_768, 16 * 512 + 34_000],
  ] as const;
  await survivesMutations(t, graph, { ...common, path: wide, tables: wideTables, writable: false });
});

test.serial('vmdk: damaged images are refused or served: descriptors', async (t) => {
  const folder = await tempDir(t);
  await rawFile(folder, 'a.bin', Buffer.alloc(MIB, 3));
  await rawFile(folder, 'b.bin', Buffer.alloc(MIB, 3));
  const lines = [
    'RW 1024 FLAT "a.bin" 0',
    'RW 512 ZERO',
    'RW 1024 FLAT "b.bin" 1',
    'RW 1024 FLAT "a.bin" 1024',
  ];
  const text = descriptor('custom', lines);
  const path = await writeDescriptor(folder, 'a.vmdk', text);
  const tables = [[80, text.length]] as const;
  const setup = { driver: 'vmdk', seed: seed(46), path, tables, writable: true };
  await survivesMutations(t, graphWith(t, vmdkDriver), setup);
});
