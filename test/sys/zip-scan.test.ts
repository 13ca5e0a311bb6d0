import { constants, crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import test from 'ava';
import { aligned } from '../../drivers/format/compressed/bit-lead.ts';
import { zipLibrary } from '../../src/sys/zip-library.ts';
import { ZipScan } from '../../src/sys/zip-scan.ts';
import { InflateScanner } from '../../src/util/inflate-scan.ts';
import type { InflateScan, ScanPoint } from '../../src/util/unpack-service.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';

const MIB = 1024 * 1024;

function nativeScan(): InflateScan {
  if (zipLibrary === undefined) throw new TypeError('this Node does not show zlib');
  return new ZipScan(zipLibrary);
}

/** Goes through a stream in pieces of random length. */
async function scanned(
  scan: InflateScan,
  packed: Buffer,
  { random, piece, spacing }: { random: Random; piece: number; spacing: number },
): Promise<ScanPoint[]> {
  const points: ScanPoint[] = [];
  try {
    for (let at = 0, ended = false; !ended;) {
      const length = random.between(1, piece);
      const step = await scan.step(packed.subarray(at, at + length), at + length >= packed.length, spacing);
      points.push(...step.points);
      ({ ended } = step);
      at += length;
    }
  } finally {
    scan.close();
  }
  return points;
}

/** Text and noise, so that blocks are of all kinds. */
function mixed(random: Random, size: number): Buffer {
  const parts: Buffer[] = [];
  for (let total = 0; total < size;) {
    const length = random.between(1, 200_000);
    parts.push(random.chance(0.3) ? random.bytes(length) : random.softBytes(length));
    total += length;
  }
  return Buffer.concat(parts).subarray(0, size);
}

const WAYS = [
  { level: 0 },
  { level: 1 },
  { level: 9, memLevel: 1 },
  { level: 6, strategy: constants.Z_FIXED },
  { level: 6, strategy: constants.Z_HUFFMAN_ONLY },
] as const;

/** What the stream unpacks to behind a point. */
function from(packed: Buffer, { bit, window }: ScanPoint): Buffer {
  const rest = aligned(packed.subarray(Math.floor(bit / 8)), bit % 8);
  return inflateRawSync(rest, window.length > 0 ? { dictionary: window } : {});
}

for (const way of WAYS) {
  test(`both scans find places where unpacking may begin: ${JSON.stringify(way)}`, async (t) => {
    const random = new Random(seed(31));
    const plain = mixed(random, 3 * MIB + 17);
    const packed = deflateRawSync(plain, way);
    const followed = Buffer.concat([packed, Buffer.from('what follows')]);
    for (const spacing of [20_000, MIB]) {
      for (const scan of [nativeScan(), new InflateScanner()]) {
        const piece = spacing === MIB ? MIB : 9000;
        const points = await scanned(scan, followed, { random, piece, spacing });
        t.deepEqual([scan.plain, scan.crc, scan.packedLength], [plain.length, crc32(plain), packed.length]);
        t.true(points.length > 0 || 'strategy' in way);
        t.true(points.every(({ plain: at }, index) => at - (points[index - 1]?.plain ?? 0) >= spacing));
        for (const point of points)
          t.is(difference(from(packed, point), plain.subarray(point.plain)), undefined);
      }
    }
  });
}

test('a stream that ends too early or is damaged is refused as node:zlib does', async (t) => {
  const random = new Random(seed(32));
  const verdicts = { good: 0, bad: 0 };
  for (let round = 0; round < 200; round += 1) {
    const plain = mixed(random, random.between(1, 40_000));
    const packed = Buffer.from(deflateRawSync(plain, { level: random.pick([0, 1, 9]), memLevel: 1 }));
    if (round % 3 > 0) packed[random.below(packed.length)] = random.below(256);
    const bytes = round % 3 === 2 ? packed.subarray(0, random.below(packed.length)) : packed;
    let wanted: number | undefined;
    try {
      wanted = crc32(inflateRawSync(bytes));
    } catch {
      wanted = undefined;
    }
    const scan = nativeScan();
    const found = await scanned(scan, bytes, { random, piece: 8192, spacing: 3000 }).then(
      () => scan.crc,
      () => undefined,
    );
    t.is(found, wanted, `round ${round}`);
    verdicts[wanted === undefined ? 'bad' : 'good'] += 1;
  }
  t.true(verdicts.good > 50 && verdicts.bad > 50, JSON.stringify(verdicts));
});
