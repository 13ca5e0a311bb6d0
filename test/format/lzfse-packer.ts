/**
 * LZFSE written from the description of the format, to judge the decoder by: it packs what it is told to pack (literals and
 * matches), by other arithmetic than the decoder's.
 */

/** `literals`, then `match` bytes from `distance` bytes ago; the distance before again when it is 0. */
export interface Op {
  readonly literals: Buffer;
  readonly match: number;
  readonly distance: number;
}

/** What the operations make, byte by byte, behind what there is. */
export function perform(ops: readonly Op[], before: Buffer): Buffer {
  const out = [...before];
  let distance = 0;
  for (const op of ops) {
    out.push(...op.literals);
    if (op.distance > 0) ({ distance } = op);
    for (let count = 0; count < op.match; count += 1) out.push(out[out.length - distance] ?? 0);
  }
  return Buffer.from(out.slice(before.length));
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}

export const END = Buffer.from('bvx$');

export const plainBlock = (plain: Buffer): Buffer =>
  Buffer.concat([Buffer.from('bvx-'), words(plain.length), plain]);

/** @param packed elements as they are, without the mark of the end */
export function lzvnBlock(packed: Buffer, plainLength: number): Buffer {
  const payload = Buffer.concat([packed, Buffer.from([6, 0, 0, 0, 0, 0, 0, 0])]);
  return Buffer.concat([Buffer.from('bvxn'), words(plainLength, payload.length), payload]);
}

interface Split {
  readonly symbol: number;
  readonly rest: number;
  readonly bits: number;
}

/** Symbol s stands for the 2^extra values behind those of the symbols before it. */
interface Values {
  readonly extra: readonly number[];
  readonly states: number;
}

function splitValue({ extra }: Values, value: number): Split {
  let base = 0;
  for (const [symbol, bits] of extra.entries()) {
    if (value < base + 2 ** bits) return { symbol, rest: value - base, bits };
    base += 2 ** bits;
  }
  throw new RangeError(`${value} has no symbol`);
}

const SMALL = Array.from({ length: 16 }, () => 0);
const L: Values = { extra: [...SMALL, 2, 3, 5, 8], states: 64 };
const M: Values = { extra: [...SMALL, 3, 5, 8, 11], states: 64 };
const D: Values = { extra: Array.from({ length: 64 }, (_, symbol) => symbol >> 2), states: 256 };
export const MOST = { literals: 315, match: 2359, distance: 262_139 } as const;

/** Frequencies that add up to the number of states; every symbol in use has one. */
function frequenciesOf(symbols: readonly number[], count: number, states: number): number[] {
  const uses = Array.from({ length: count }, () => 0);
  for (const symbol of symbols) uses[symbol] = (uses[symbol] ?? 0) + 1;
  if (symbols.length === 0) return uses;
  const scaled = uses.map((use) =>
    use === 0 ? 0 : Math.max(1, Math.floor((use * states) / symbols.length)),
  );
  for (;;) {
    const excess = scaled.reduce((sum, one) => sum + one, 0) - states;
    if (excess === 0) return scaled;
    const largest = scaled.indexOf(Math.max(...scaled));
    scaled[largest] = (scaled[largest] ?? 0) - Math.sign(excess);
  }
}

interface BitString {
  readonly bytes: Buffer;
  /** Bits of the last byte that are not used. */
  readonly spare: number;
}

/** Bits as they are written, lowest first: the reader starts at the end. */
class BitWriter {
  private readonly bits: number[] = [];

  push(value: number, count: number): void {
    for (let bit = 0; bit < count; bit += 1) this.bits.push(Math.floor(value / 2 ** bit) % 2);
  }

  finish(): BitString {
    const bytes = Buffer.alloc(Math.ceil(this.bits.length / 8));
    for (const [at, bit] of this.bits.entries()) {
      const index = Math.floor(at / 8);
      bytes[index] = (bytes[index] ?? 0) + bit * 2 ** (at % 8);
    }
    return { bytes, spare: bytes.length * 8 - this.bits.length };
  }
}

/** From the last symbol to the first: a state of N to 2N - 1 loses low bits until it is one of f to 2f - 1. */
class Coder {
  state = 0;
  private readonly frequencies: readonly number[];
  private readonly states: number;

  constructor(frequencies: readonly number[], states: number) {
    this.frequencies = frequencies;
    this.states = states;
  }

  code(symbol: number, bits: BitWriter): void {
    const frequency = this.frequencies[symbol] ?? 0;
    const full = this.state + this.states;
    let count = 0;
    while (Math.floor(full / 2 ** count) >= 2 * frequency) count += 1;
    bits.push(full % 2 ** count, count);
    const start = this.frequencies.slice(0, symbol).reduce((sum, one) => sum + one, 0);
    this.state = start + Math.floor(full / 2 ** count) - frequency;
  }
}

interface CodedLiterals {
  readonly count: number;
  readonly bits: BitString;
  readonly states: readonly number[];
  readonly frequencies: readonly number[];
}

function codeLiterals(ops: readonly Op[]): CodedLiterals {
  const all = Buffer.concat(ops.map(({ literals }) => literals));
  const padded = Buffer.concat([all, Buffer.alloc((4 - (all.length % 4)) % 4, all.subarray(0, 1))]);
  const frequencies = frequenciesOf([...padded], 256, 1024);
  const writer = new BitWriter();
  const coders = [0, 1, 2, 3].map(() => new Coder(frequencies, 1024));
  for (let at = padded.length - 1; at >= 0; at -= 1) coders[at % 4]?.code(padded[at] ?? 0, writer);
  return {
    count: padded.length,
    bits: writer.finish(),
    states: coders.map(({ state }) => state),
    frequencies,
  };
}

interface CodedOps {
  readonly bits: BitString;
  readonly states: readonly number[];
  readonly frequencies: readonly number[];
}

function codeOps(ops: readonly Op[]): CodedOps {
  const columns = [
    { values: L, of: ops.map(({ literals }) => splitValue(L, literals.length)) },
    { values: M, of: ops.map(({ match }) => splitValue(M, match)) },
    { values: D, of: ops.map(({ distance }) => splitValue(D, distance)) },
  ].map(({ values: { extra, states }, of }) => {
    const symbols = of.map(({ symbol }) => symbol);
    const frequencies = frequenciesOf(symbols, extra.length, states);
    return { of, frequencies, coder: new Coder(frequencies, states) };
  });
  const writer = new BitWriter();
  for (let index = ops.length - 1; index >= 0; index -= 1) {
    for (const { of, coder } of [...columns].reverse()) {
      const { symbol, rest, bits } = of[index] ?? { symbol: 0, rest: 0, bits: 0 };
      writer.push(rest, bits);
      coder.code(symbol, writer);
    }
  }
  return {
    bits: writer.finish(),
    states: columns.map(({ coder }) => coder.state),
    frequencies: columns.flatMap(({ frequencies }) => frequencies),
  };
}

/** A block with a header of fields as they are. */
export function v1Block(ops: readonly Op[], plainLength: number): Buffer {
  const literals = codeLiterals(ops);
  const coded = codeOps(ops);
  const sizes = [literals.bits.bytes.length, coded.bits.bytes.length] as const;
  const header = Buffer.alloc(772);
  header.write('bvx1');
  words(plainLength, sizes[0] + sizes[1], literals.count, ops.length, ...sizes).copy(header, 4);
  header.writeInt32LE(-literals.bits.spare, 28);
  for (const [index, state] of literals.states.entries()) header.writeUInt16LE(state, 32 + index * 2);
  header.writeInt32LE(-coded.bits.spare, 40);
  for (const [index, state] of coded.states.entries()) header.writeUInt16LE(state, 44 + index * 2);
  for (const [index, value] of [...coded.frequencies, ...literals.frequencies].entries())
    header.writeUInt16LE(value, 50 + index * 2);
  return Buffer.concat([header, literals.bits.bytes, coded.bits.bytes]);
}

/** A block with a header of packed fields and coded frequencies. */
export function v2Block(ops: readonly Op[], plainLength: number): Buffer {
  const literals = codeLiterals(ops);
  const coded = codeOps(ops);
  const writer = new BitWriter();
  for (const value of [...coded.frequencies, ...literals.frequencies]) pushFrequency(writer, value);
  const { bytes } = writer.finish();
  const fields = [
    [literals.count, 20, literals.bits.bytes.length, 20, ops.length, 20, 7 - literals.bits.spare, 3],
    [
      ...literals.states.flatMap((state) => [state, 10]),
      coded.bits.bytes.length,
      20,
      7 - coded.bits.spare,
      3,
    ],
    [32 + bytes.length, 32, ...coded.states.flatMap((state) => [state, 10])],
  ];
  const header = Buffer.alloc(32);
  header.write('bvx2');
  header.writeUInt32LE(plainLength, 4);
  for (const [index, parts] of fields.entries()) header.writeBigUInt64LE(fieldOf(parts), 8 + index * 8);
  return Buffer.concat([header, bytes, literals.bits.bytes, coded.bits.bytes]);
}

/** @param parts value and width by turns, lowest first */
function fieldOf(parts: readonly number[]): bigint {
  let value = 0n;
  let shift = 0;
  for (let index = 0; index < parts.length; index += 2) {
    value += BigInt(parts[index] ?? 0) << BigInt(shift);
    shift += parts[index + 1] ?? 0;
  }
  return value;
}

function pushFrequency(bits: BitWriter, value: number): void {
  if (value < 2) bits.push(value * 2, 2);
  else if (value < 4) bits.push(1 + (value - 2) * 4, 3);
  else if (value < 8) bits.push(3 + (value - 4) * 8, 5);
  else if (value < 24) bits.push(7 + (value - 8) * 16, 8);
  else bits.push(15 + (value - 24) * 16, 14);
}

/** The ways of LZVN to say an operation: all that can. */
export function lzvnWays({ literals, match, distance }: Op): Buffer[] {
  const l = literals.length;
  const m = match - 3;
  const ways: number[][] = [];
  const isShort = m >= 0 && l <= 3 && match + 2 * l <= 10;
  if (isShort && distance > 0 && distance < 0x600)
    ways.push([l * 64 + m * 8 + (distance >> 8), distance & 255]);
  if (isShort && distance > 0) ways.push([l * 64 + m * 8 + 7, distance & 255, distance >> 8]);
  if (isShort && distance === 0 && l > 0) ways.push([l * 64 + m * 8 + 6]);
  if (l <= 3 && m >= 0 && m < 32 && distance > 0 && distance < 16_384)
    ways.push([0xa0 + l * 8 + (m >> 2), (m & 3) + (distance & 63) * 4, distance >> 6]);
  if (match === 0 && l > 0 && l < 16) ways.push([0xe0 + l]);
  if (match === 0 && l >= 16 && l < 272) ways.push([0xe0, l - 16]);
  if (l === 0 && distance === 0 && match > 0 && match < 16) ways.push([0xf0 + match]);
  if (l === 0 && distance === 0 && match >= 16 && match < 272) ways.push([0xf0, match - 16]);
  return ways.map((way) => Buffer.concat([Buffer.from(way), literals]));
}
