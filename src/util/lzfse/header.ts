/** Headers of LZFSE blocks. Version 1 has fields of whole bytes, version 2 packs them and codes the frequencies. */
const L_SYMBOLS = 20;
const M_SYMBOLS = 20;
const D_SYMBOLS = 64;
const LITERAL_SYMBOLS = 256;
const ALL_SYMBOLS = L_SYMBOLS + M_SYMBOLS + D_SYMBOLS + LITERAL_SYMBOLS;
const MATCHES_MAX = 10_000;
const LITERALS_MAX = 4 * MATCHES_MAX;
const V1_LENGTH = 772;
const V1_FREQUENCIES = 50;
const V2_FREQUENCIES = 32;

export interface LzfseHeader {
  /** Bytes of the header. */
  readonly length: number;
  readonly literals: number;
  readonly matches: number;
  /** Bytes of the coded literals, and of the coded lengths and distances behind them. */
  readonly literalBytes: number;
  readonly lmdBytes: number;
  /** Unused bits at the end of each. */
  readonly literalSpare: number;
  readonly lmdSpare: number;
  readonly literalStates: readonly number[];
  readonly lState: number;
  readonly mState: number;
  readonly dState: number;
  readonly lFrequencies: Uint16Array;
  readonly mFrequencies: Uint16Array;
  readonly dFrequencies: Uint16Array;
  readonly literalFrequencies: Uint16Array;
}

type Fields = Omit<LzfseHeader, 'lFrequencies' | 'mFrequencies' | 'dFrequencies' | 'literalFrequencies'>;

export function readHeaderV1(bytes: Buffer, at: number): LzfseHeader {
  if (at + V1_LENGTH > bytes.length) throw new RangeError('lzfse: the stream ends in a header');
  const frequencies = new Uint16Array(ALL_SYMBOLS);
  for (let index = 0; index < ALL_SYMBOLS; index += 1) {
    frequencies[index] = bytes.readUInt16LE(at + V1_FREQUENCIES + index * 2);
  }
  return complete(
    {
      length: V1_LENGTH,
      literals: bytes.readUInt32LE(at + 12),
      matches: bytes.readUInt32LE(at + 16),
      literalBytes: bytes.readUInt32LE(at + 20),
      lmdBytes: bytes.readUInt32LE(at + 24),
      literalSpare: -bytes.readInt32LE(at + 28),
      literalStates: [32, 34, 36, 38].map((offset) => bytes.readUInt16LE(at + offset)),
      lmdSpare: -bytes.readInt32LE(at + 40),
      lState: bytes.readUInt16LE(at + 44),
      mState: bytes.readUInt16LE(at + 46),
      dState: bytes.readUInt16LE(at + 48),
    },
    frequencies,
  );
}

export function readHeaderV2(bytes: Buffer, at: number): LzfseHeader {
  if (at + V2_FREQUENCIES > bytes.length) throw new RangeError('lzfse: the stream ends in a header');
  const fields = [8, 16, 24].map((offset) => bytes.readBigUInt64LE(at + offset));
  const take = (field: number, shift: number, width: number): number =>
    Number(((fields[field] ?? 0n) >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
  const length = take(2, 0, 32);
  if (length < V2_FREQUENCIES || at + length > bytes.length)
    throw new RangeError(`lzfse: a header of ${length} bytes`);
  return complete(
    {
      length,
      literals: take(0, 0, 20),
      literalBytes: take(0, 20, 20),
      matches: take(0, 40, 20),
      literalSpare: 7 - take(0, 60, 3),
      literalStates: [0, 10, 20, 30].map((shift) => take(1, shift, 10)),
      lmdBytes: take(1, 40, 20),
      lmdSpare: 7 - take(1, 60, 3),
      lState: take(2, 32, 10),
      mState: take(2, 42, 10),
      dState: take(2, 52, 10),
    },
    readFrequencies(bytes.subarray(at + V2_FREQUENCIES, at + length)),
  );
}

function complete(fields: Fields, frequencies: Uint16Array): LzfseHeader {
  const { literals, matches, literalSpare, lmdSpare } = fields;
  if (literals > LITERALS_MAX || matches > MATCHES_MAX)
    throw new RangeError(`lzfse: ${literals} literals, ${matches} matches`);
  if (literalSpare < 0 || literalSpare > 7 || lmdSpare < 0 || lmdSpare > 7)
    throw new RangeError('lzfse: unused bits');
  return {
    ...fields,
    lFrequencies: frequencies.subarray(0, L_SYMBOLS),
    mFrequencies: frequencies.subarray(L_SYMBOLS, L_SYMBOLS + M_SYMBOLS),
    dFrequencies: frequencies.subarray(L_SYMBOLS + M_SYMBOLS, ALL_SYMBOLS - LITERAL_SYMBOLS),
    literalFrequencies: frequencies.subarray(ALL_SYMBOLS - LITERAL_SYMBOLS),
  };
}

/**
 * Frequencies in a fixed prefix code, lowest bit first:
 *
 *     00 -> 0    10 -> 1    001 -> 2    101 -> 3    vvv-coded 4 to 7 in 5 bits    0111 + 4 bits -> 8 ...    1111 + 10 bits -> 24 ...
 */
function readFrequencies(bytes: Buffer): Uint16Array {
  const frequencies = new Uint16Array(ALL_SYMBOLS);
  if (bytes.length === 0) return frequencies;
  let hold = 0;
  let held = 0;
  let at = 0;
  for (let index = 0; index < ALL_SYMBOLS; index += 1) {
    while (held < 16 && at < bytes.length) {
      hold += (bytes[at] ?? 0) * 2 ** held;
      at += 1;
      held += 8;
    }
    const [value, width] = frequencyAt(hold);
    if (width > held) throw new RangeError('lzfse: the frequencies end too early');
    frequencies[index] = value;
    hold = Math.floor(hold / 2 ** width);
    held -= width;
  }
  if (at < bytes.length || held >= 8) throw new RangeError('lzfse: bytes behind the frequencies');
  return frequencies;
}

/** Value and width of the code in the low bits. */
function frequencyAt(bits: number): readonly [number, number] {
  switch (bits & 3) {
    case 0:
      return [0, 2];
    case 2:
      return [1, 2];
    case 1:
      return [(bits & 4) === 0 ? 2 : 3, 3];
    default:
      if ((bits & 4) === 0) return [4 + ((bits >> 3) & 3), 5];
      return (bits & 8) === 0 ? [8 + ((bits >> 4) & 15), 8] : [24 + ((bits >> 4) & 1023), 14];
  }
}
