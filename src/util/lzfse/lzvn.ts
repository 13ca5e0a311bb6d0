import type { LzOutput } from '../lz-output.ts';

/**
 * LZVN, the byte-wise part of LZFSE. An element is a literal, a match, or both (l literal bytes behind it, m bytes
 * from d bytes ago; without d the last distance again):
 *
 *     llmmmddd dddddddd              small distance (ddd not 110, 111)
 *     101llmmm ddddddmm dddddddd     medium distance (the second and third byte are one little-endian number)
 *     llmmm111 dddddddd dddddddd     large distance, little-endian
 *     llmmm110                       last distance
 *     11100000 llllllll  1110llll    literals only
 *     11110000 mmmmmmmm  1111mmmm    match only
 *     00000110                       end
 */
export function unpackLzvn(packed: Buffer, from: number, to: number, out: LzOutput): void {
  let distance = 0;
  for (let at = from; at < to;) {
    const element = readElement(packed, at);
    if (element === undefined) return;
    const { size, literals, match } = element;
    if (at + size + literals > to) break;
    out.literal(packed, at + size, literals);
    if (element.distance !== undefined) distance = element.distance;
    if (match > 0) out.match(distance, match);
    at += size + literals;
  }
  throw new RangeError('lzvn: the block ends without its end mark');
}

interface Element {
  /** Bytes of the element, without its literals. */
  readonly size: number;
  readonly literals: number;
  readonly match: number;
  readonly distance: number | undefined;
}

const END = 0x06;
const NOTHING: readonly number[] = [0x0e, 0x16];
const UNDEFINED: readonly number[] = [0x1e, 0x26, 0x2e, 0x36, 0x3e];

function readElement(bytes: Buffer, at: number): Element | undefined {
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  if (first === END) return undefined;
  if (NOTHING.includes(first)) return { size: 1, literals: 0, match: 0, distance: undefined };
  const high = first >> 4;
  if (high === 0xe) return plain(first, second, true);
  if (high === 0xf) return plain(first, second, false);
  if (high === 0x7 || high === 0xd || UNDEFINED.includes(first)) {
    throw new RangeError(`lzvn: an element of 0x${first.toString(16)}`);
  }
  const word = second + (bytes[at + 2] ?? 0) * 256;
  if (first >> 5 === 5) {
    return {
      size: 3,
      literals: (first >> 3) & 3,
      match: (first & 7) * 4 + (word & 3) + 3,
      distance: word >> 2,
    };
  }
  const both = { literals: first >> 6, match: ((first >> 3) & 7) + 3 };
  if ((first & 7) === 7) return { ...both, size: 3, distance: word };
  if ((first & 7) === 6) return { ...both, size: 1, distance: undefined };
  return { ...both, size: 2, distance: (first & 7) * 256 + second };
}

function plain(first: number, second: number, isLiteral: boolean): Element {
  const long = (first & 15) === 0;
  const count = long ? second + 16 : first & 15;
  const size = long ? 2 : 1;
  if (isLiteral) return { size, literals: count, match: 0, distance: undefined };
  return { size, literals: 0, match: count, distance: undefined };
}
