/** Each rule of [MS-VHDX] that a file can break is told with the value and what was wanted. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { vhdxDriver } from '../../drivers/format/vhdx/driver.ts';
import {
  decodeHeader,
  encodeHeader,
  HEADER_LENGTH,
  HEADER_PLACES,
} from '../../drivers/format/vhdx/header.ts';
import type { VhdxHeader } from '../../drivers/format/vhdx/header.ts';
import { REGION_PLACES, sumWithout } from '../../drivers/format/vhdx/header.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { ErrnoCode } from '../../src/block/errors.ts';
import { writeU64LE } from '../../src/util/bytes.ts';
import { NIL_GUID } from '../../src/util/guid.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { createImage, hold, holdImage, MIB, release } from './small-image.ts';
import { forWriting, graphOf } from './vhdx-images.ts';

const SIZE = 4 * MIB;
const METADATA = 2 * MIB;
const ITEMS = METADATA + 65_536;
const BAT = 3 * MIB;
const REGION_TABLE = 65_536;

type Change = (bytes: Buffer) => void;

const header =
  (change: Partial<VhdxHeader>): Change =>
  (bytes) => {
    for (const place of HEADER_PLACES) {
      const now = decodeHeader(bytes.subarray(place, place + HEADER_LENGTH));
      if (typeof now !== 'string') encodeHeader({ ...now, ...change }).copy(bytes, place);
    }
  };

/** `at` of both region tables, their checksums right again. */
const regions =
  (at: number, value: number): Change =>
  (bytes) => {
    for (const place of REGION_PLACES) {
      bytes.writeUInt32LE(value, place + at);
      const table = bytes.subarray(place, place + REGION_TABLE);
      table.writeUInt32LE(sumWithout(table, 4), 4);
    }
  };

const word =
  (at: number, value: number): Change =>
  (bytes) =>
    bytes.writeUInt32LE(value, at);

const long =
  (at: number, value: number): Change =>
  (bytes) =>
    writeU64LE(bytes, value, at);

const CASES: readonly (readonly [title: string, Change, RegExp, ErrnoCode?])[] = [
  ['signature', (bytes) => bytes.write('vhdxfilE', 0), /signature is "vhdxfilE", must be "vhdxfile"/],
  ['version', header({ version: 2 }), /header 1: version is 2, must be 1; header 2: version is 2, must be 1/],
  ['log place', header({ log_offset: 4096 }), /log offset is 4096, must be a multiple of 1 MiB, at least/],
  ['log length', header({ log_length: 4096 }), /log length is 4096, must be a multiple of 1 MiB/],
  [
    'log version',
    header({ log_version: 3, log_guid: '12345678-1234-1234-1234-123456789abc' }),
    /log version is 3, must be 0/,
    'ENOTSUP',
  ],
  ['region count', regions(8, 3000), /region table 1: entry count is 3000, must be at most 2047/],
  [
    'unknown region',
    regions(16, 0x12345678),
    /it needs region \{12345678-.*\}, which is not known/,
    'ENOTSUP',
  ],
  ['region place', regions(32, 512), /region \{2dc27766-.*\} is at 512, must be at a multiple of 1 MiB/],
  [
    'region length',
    regions(40, 1000),
    /region \{2dc27766-.*\} has 1000 bytes, must have a multiple of 1 MiB/,
  ],
  [
    'region end',
    regions(40, 4096 * MIB - MIB),
    /region \{2dc27766-.*\} ends at \d+, must be inside the file of/,
  ],
  [
    'regions overlap',
    regions(32, METADATA),
    /region \{.*\} begins at 2097152, must be behind \{.*\}, which ends/,
  ],
  ['metadata table', word(METADATA, 0), /the metadata table's signature is .*, must be "metadata"/],
  [
    'metadata count',
    (b) => b.writeUInt16LE(4000, METADATA + 10),
    /the metadata table has 4000 entries, .* 2047/,
  ],
  [
    'unknown item',
    word(METADATA + 32, 0x12345678),
    /it needs metadata item \{12345678-.*\}, which is not known/,
    'ENOTSUP',
  ],
  ['item of a user', word(METADATA + 32 + 24, 5), /it needs metadata item \{caa16737-/, 'ENOTSUP'],
  ['missing item', word(METADATA + 32 + 24, 1), /metadata item fileParameters is missing, must be there/],
  [
    'item place',
    word(METADATA + 32 + 16, 100),
    /metadata item fileParameters is at 100, 8 bytes, must be from/,
  ],
  ['block size', word(ITEMS, 3 * MIB), /block size is 3145728, must be a power of two from 1 MiB to 256 MiB/],
  [
    'disk size',
    long(ITEMS + 8, SIZE + 100),
    /virtual disk size is 4194404, must be a multiple of the sector size/,
  ],
  ['disk size', long(ITEMS + 8, 65 * 2 ** 40), /virtual disk size is \d+, must be at most 70368744177664/],
  ['table', long(ITEMS + 8, 2 ** 40), /table has 1048576 bytes, must have at least \d+/],
  ['sector', word(ITEMS + 32, 1024), /logical sector size is 1024, must be 512 or 4096/],
  ['parent', word(ITEMS + 4, 2), /metadata item parentLocator is missing, must be there/],
];

test('vhdx: what is wrong is named with value and expectation', async (t) => {
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  await createImage(graph, vhdxDriver, path, { size: SIZE, options: { block_size: MIB } });
  const good = await readFile(path);
  for (const [title, change, wanted, code = 'EINVAL'] of CASES) {
    const bytes = Buffer.from(good);
    change(bytes);
    await writeFile(path, bytes);
    const error = await t.throwsAsync(holdImage(graph, path, 'vhdx'), { instanceOf: BlockError }, title);
    t.regex(error.message, wanted, title);
    t.is(error.code, code, title);
  }
});

test('vhdx: headers that say the same are one', async (t) => {
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  await createImage(graph, vhdxDriver, path, { size: SIZE, options: { block_size: MIB } });
  const bytes = await readFile(path);
  header({ sequence_number: 9n })(bytes);
  await writeFile(path, bytes);
  await release(graph, await holdImage(graph, path));
  const [, second] = HEADER_PLACES;
  const now = decodeHeader(bytes.subarray(second, second + HEADER_LENGTH));
  if (typeof now === 'string') return t.fail(now);
  encodeHeader({ ...now, file_write_guid: NIL_GUID }).copy(bytes, second);
  await writeFile(path, bytes);
  await t.throwsAsync(holdImage(graph, path), {
    message: /both headers have sequence number 9, must be equal/,
  });
});

test('vhdx: blocks that can not be are named when they are met, and refused for writing', async (t) => {
  const path = join(await tempDir(t), 'a.vhdx');
  const graph = graphOf(t);
  await createImage(graph, vhdxDriver, path, { size: SIZE, options: { block_size: MIB } });
  const child = await hold(graph, forWriting(path));
  await child.write(Buffer.alloc(2 * MIB, 1), 0);
  await release(graph, child);
  const good = await readFile(path);
  const cases: readonly (readonly [Change, RegExp, RegExp | undefined])[] = [
    [long(BAT, 5), /block 0 has state 5, must be 0 to 3, 6 or 7/, /block 0 has state 5/],
    [
      long(BAT, 100 * MIB + 6),
      /block 0 begins at byte 104857600, must be inside the file of/,
      /block 0 begins/,
    ],
    [
      long(BAT + 8, good.readUInt32LE(BAT)),
      /no error/,
      /something begins at byte \d+, what is before it ends at/,
    ],
    [long(BAT, BAT + 6), /no error/, /something begins at byte 3145728/],
    [long(BAT, good.readUInt32LE(BAT) + 1), /sector bitmap|partially present/, undefined],
  ];
  for (const [change, onRead, onOpen] of cases) {
    const bytes = Buffer.from(good);
    change(bytes);
    await writeFile(path, bytes);
    const reader = await holdImage(graph, path);
    const outcome = await reader.read(Buffer.alloc(4096), 0).then(
      () => 'no error',
      (error: unknown) => String(error),
    );
    t.regex(outcome, onRead);
    await release(graph, reader);
    if (onOpen !== undefined) await t.throwsAsync(hold(graph, forWriting(path)), { message: onOpen });
  }
});
