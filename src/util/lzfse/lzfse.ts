/** LZFSE: blocks of bytes as they are, of LZVN, or of literals, lengths and distances in FSE codes. */
import { LzOutput } from '../lz-output.ts';
import { BackwardBits, FseDecoder, FseTable } from './fse.ts';
import { readHeaderV1, readHeaderV2 } from './header.ts';
import type { LzfseHeader } from './header.ts';
import { unpackLzvn } from './lzvn.ts';

const Magic = {
  end: 0x24787662,
  plain: 0x2d787662,
  v1: 0x31787662,
  v2: 0x32787662,
  lzvn: 0x6e787662,
} as const;

/** Values of the symbols of literal lengths, match lengths and distances, and the extra bits that follow each. */
const L_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 8];
const M_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11];
const D_EXTRA = Array.from({ length: 64 }, (_, symbol) => Math.floor(symbol / 4));
const L_BASE = basesOf(L_EXTRA);
const M_BASE = basesOf(M_EXTRA);
const D_BASE = basesOf(D_EXTRA);

/** Every symbol begins where the values of the one before end. */
function basesOf(extra: readonly number[]): number[] {
  let base = 0;
  return extra.map((bits) => {
    const own = base;
    base += 2 ** bits;
    return own;
  });
}

/** Unpacks a stream that must give exactly `size` bytes. Throws a RangeError for anything else. */
export function unpackLzfse(packed: Buffer, size: number): Buffer {
  const out = new LzOutput(size);
  for (let at = 0; ;) {
    if (at + 4 > packed.length) throw new RangeError('lzfse: the stream ends without its end mark');
    const magic = packed.readUInt32LE(at);
    if (magic === Magic.end) return out.finish();
    if (magic === Magic.plain) {
      const length = word(packed, at + 4);
      out.literal(packed, at + 8, length);
      at += 8 + length;
    } else if (magic === Magic.lzvn) {
      const end = at + 12 + word(packed, at + 8);
      if (end > packed.length) throw new RangeError('lzfse: a block goes past the end');
      unpackLzvn(packed, at + 12, end, out);
      at = end;
    } else if (magic === Magic.v1 || magic === Magic.v2) {
      const header = magic === Magic.v1 ? readHeaderV1(packed, at) : readHeaderV2(packed, at);
      at = unpackBlock(packed, at + header.length, header, out);
    } else {
      throw new RangeError(`lzfse: a block of 0x${magic.toString(16)}`);
    }
  }
}

function word(bytes: Buffer, at: number): number {
  if (at + 4 > bytes.length) throw new RangeError('lzfse: the stream ends too early');
  return bytes.readUInt32LE(at);
}

function unpackBlock(packed: Buffer, at: number, header: LzfseHeader, out: LzOutput): number {
  const literalEnd = at + header.literalBytes;
  const end = literalEnd + header.lmdBytes;
  if (end > packed.length) throw new RangeError('lzfse: a block goes past the end');
  const literals = unpackLiterals(packed, at, literalEnd, header);
  const bits = new BackwardBits(packed, literalEnd, end, header.lmdSpare);
  const l = new FseDecoder(new FseTable(header.lFrequencies, 64), header.lState);
  const m = new FseDecoder(new FseTable(header.mFrequencies, 64), header.mState);
  const d = new FseDecoder(new FseTable(header.dFrequencies, 256), header.dState);
  let from = 0;
  let distance = 0;
  for (let count = 0; count < header.matches; count += 1) {
    const literalLength = l.nextValue(bits, L_BASE, L_EXTRA);
    const matchLength = m.nextValue(bits, M_BASE, M_EXTRA);
    distance = d.nextValue(bits, D_BASE, D_EXTRA) || distance;
    out.literal(literals, from, literalLength);
    from += literalLength;
    if (matchLength > 0) out.match(distance, matchLength);
  }
  return end;
}

/** Four decoders take turns at one stream of bits. */
function unpackLiterals(packed: Buffer, from: number, to: number, header: LzfseHeader): Buffer {
  const table = new FseTable(header.literalFrequencies, 1024);
  const bits = new BackwardBits(packed, from, to, header.literalSpare);
  const [one, two, three, four] = header.literalStates.map((state) => new FseDecoder(table, state));
  if (!one || !two || !three || !four) throw new RangeError('lzfse: four states are needed');
  // Whole fours, as writers pad them; what is over is not used.
  const literals = Buffer.allocUnsafe(Math.ceil(header.literals / 4) * 4);
  for (let at = 0; at < literals.length; at += 4) {
    literals[at] = one.next(bits);
    literals[at + 1] = two.next(bits);
    literals[at + 2] = three.next(bits);
    literals[at + 3] = four.next(bits);
  }
  return literals.subarray(0, header.literals);
}
