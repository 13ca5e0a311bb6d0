/**
 * Entering a deflate stream in the middle of a byte. zlib can be told to begin at a bit, but Node does not pass that on;
 * and the stream can't be shifted, for stored blocks are aligned to bytes. So the bits before the entry are replaced
 * by blocks that unpack to nothing and end at the same bit of a byte:
 *
 *     fixed     10 bits: header, end of block
 *     dynamic   93 bits: a code that has nothing but the end of block, for the odd bits
 */

/** Bits, lowest first in each number: value and count. */
type Bits = readonly (readonly [value: number, count: number])[];

const FIXED: Bits = [
  [0b010, 3],
  [0, 7],
];

/** Code lengths of the code of code lengths, in the order of RFC 1951: 2 for 18 and 0, 1 for 1. */
const CODE_LENGTHS = [0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/** Codes that follow: 1 is 0; 0 is 10; 18 is 11 (highest bit first). */
const ZEROES_138: Bits = [
  [0b11, 2],
  [138 - 11, 7],
];
const ZEROES_118: Bits = [
  [0b11, 2],
  [118 - 11, 7],
];
const DYNAMIC: Bits = [
  [0b100, 3],
  [0, 5],
  [0, 5],
  [CODE_LENGTHS.length - 4, 4],
  ...CODE_LENGTHS.map((length) => [length, 3] as const),
  ...ZEROES_138,
  ...ZEROES_118,
  [0, 1],
  [0b01, 2],
  [0, 1],
];

function leadTo(bit: number): Buffer {
  const parts: Bits[] = bit % 2 === 0 ? [] : [DYNAMIC];
  const length = (): number => parts.flat().reduce((sum, [, count]) => sum + count, 0);
  while (length() % 8 !== bit) parts.push(FIXED);
  const bytes = Buffer.alloc(Math.ceil(length() / 8));
  let at = 0;
  for (const [value, count] of parts.flat()) {
    for (let index = 0; index < count; index += 1, at += 1) {
      const byte = Math.floor(at / 8);
      bytes[byte] = (bytes[byte] ?? 0) | (((value >> index) & 1) << (at % 8));
    }
  }
  return bytes;
}

const LEADS = Array.from({ length: 8 }, (_, bit) => leadTo(bit));

/** A stream that unpacks to what `bytes` do from their bit `bit` (0 to 7) on. */
export function aligned(bytes: Buffer, bit: number): Buffer {
  const lead = LEADS[bit];
  if (bit === 0 || lead === undefined || bytes.length === 0) return bytes;
  const all = Buffer.concat([lead, bytes.subarray(1)]);
  const seam = lead.length - 1;
  const kept = (1 << bit) - 1;
  all[seam] = ((lead[seam] ?? 0) & kept) | ((bytes[0] ?? 0) & ~kept);
  return all;
}
