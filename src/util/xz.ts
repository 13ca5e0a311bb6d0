/** The .xz container (xz file format specification 1.2): headers, index, checks. Pure: bytes in, facts out. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Crc64 } from './crc64.ts';
import { lzma2Chunk, Lzma2Decoder } from './lzma2.ts';

export const XZ_HEADER = 12;
export const XZ_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
const FOOTER_MAGIC = 0x5a59;
const LZMA2 = 0x21;
const FILTERS: Readonly<Record<number, string>> = {
  3: 'delta',
  4: 'x86',
  5: 'powerpc',
  6: 'ia64',
  7: 'arm',
  8: 'armthumb',
  9: 'sparc',
  10: 'arm64',
  11: 'riscv',
};
/** Bytes of the check by its number. */
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

export interface XzBlockHeader {
  readonly length: number;
  readonly dictionary: number;
}

export interface XzRecord {
  /** Bytes of header, data and check, without padding. */
  readonly unpadded: number;
  readonly plain: number;
}

export interface XzFooter {
  readonly indexLength: number;
  readonly check: number;
}

function bad(why: string): never {
  throw new RangeError(`xz: ${why}`);
}

/** The number of the check that the stream uses. */
export function readXzHeader(bytes: Buffer, at = 0): number {
  if (bytes.length - at < XZ_HEADER || !bytes.subarray(at, at + 6).equals(XZ_MAGIC)) bad('no stream header');
  if (crc32(bytes.subarray(at + 6, at + 8)) !== bytes.readUInt32LE(at + 8))
    bad('checksum of a stream header');
  return checkOf(bytes, at + 6);
}

export function readXzFooter(bytes: Buffer, at: number): XzFooter {
  if (bytes.readUInt16LE(at + 10) !== FOOTER_MAGIC) bad('no stream footer');
  if (crc32(bytes.subarray(at + 4, at + 10)) !== bytes.readUInt32LE(at)) bad('checksum of a stream footer');
  return { indexLength: (bytes.readUInt32LE(at + 4) + 1) * 4, check: checkOf(bytes, at + 8) };
}

function checkOf(bytes: Buffer, at: number): number {
  const check = bytes[at + 1] ?? 255;
  if (bytes[at] !== 0 || check > 15) bad(`stream flags are 0x${bytes.toString('hex', at, at + 2)}`);
  return check;
}

export const xzCheckSize = (check: number): number => CHECK_SIZES[check] ?? 0;

/** @param bytes the whole index @param each gets the records one by one */
export function readXzIndex(bytes: Buffer, each: (record: XzRecord) => void): void {
  if (bytes[0] !== 0 || bytes.length < 8) bad('no index where the footer says');
  if (crc32(bytes.subarray(0, bytes.length - 4)) !== bytes.readUInt32LE(bytes.length - 4))
    bad('checksum of the index');
  const cursor = { at: 1 };
  const count = readVli(bytes, cursor);
  if (count > bytes.length) bad(`the index has ${count} records`);
  for (let index = 0; index < count; index += 1) {
    const unpadded = readVli(bytes, cursor);
    each({ unpadded, plain: readVli(bytes, cursor) });
  }
}

/** The header of the block that begins at `at`; undefined for the index, which begins with 0. */
export function readXzBlockHeader(bytes: Buffer, at: number): XzBlockHeader | undefined {
  const first = bytes[at] ?? bad('the file ends before a block');
  if (first === 0) return undefined;
  const length = (first + 1) * 4;
  if (bytes.length - at < length) bad('the file ends in a block header');
  const header = bytes.subarray(at, at + length);
  if (crc32(header.subarray(0, length - 4)) !== header.readUInt32LE(length - 4))
    bad('checksum of a block header');
  const flags = header[1] ?? 0;
  const cursor = { at: 2 };
  if ((flags & 0x40) !== 0) readVli(header, cursor);
  if ((flags & 0x80) !== 0) readVli(header, cursor);
  if ((flags & 0x3c) !== 0) bad(`block flags are 0x${flags.toString(16)}`);
  return { length, dictionary: readFilters(header, cursor, (flags & 3) + 1) };
}

/** The size of the dictionary, for the only chain of filters that is supported. */
function readFilters(header: Buffer, cursor: { at: number }, count: number): number {
  const id = readVli(header, cursor);
  if (id !== LZMA2 || count !== 1)
    bad(`filter ${FILTERS[id] ?? `0x${id.toString(16)}`} is not supported, only lzma2`);
  if (readVli(header, cursor) !== 1) bad('properties of lzma2');
  const bits = header[cursor.at] ?? 255;
  if (bits > 40) bad(`dictionary size is ${bits}, must be at most 40`);
  return bits === 40 ? 2 ** 32 - 1 : (2 + (bits % 2)) * 2 ** (Math.floor(bits / 2) + 11);
}

/** A number in groups of seven bits, lowest first. */
function readVli(bytes: Buffer, cursor: { at: number }): number {
  let value = 0;
  for (let shift = 0; shift < 63; shift += 7) {
    const byte = bytes[cursor.at] ?? bad('a number ends too early');
    cursor.at += 1;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return value > Number.MAX_SAFE_INTEGER ? bad('a number over 2^53') : value;
  }
  return bad('a number is too long');
}

/**
 * Unpacks the block that begins at `at` of `bytes` into `out` from `to` on, as many bytes as it has.
 * @returns where the next block begins, and where its bytes go
 */
export function unpackXzBlock(
  bytes: Buffer,
  at: number,
  target: { readonly out: Buffer; readonly to: number },
  check: number,
): { at: number; to: number } {
  const { out } = target;
  const header = readXzBlockHeader(bytes, at) ?? bad('no block');
  const decoder = new Lzma2Decoder(header.dictionary, out.length - target.to);
  let { to } = target;
  let from = at + header.length;
  for (;;) {
    const chunk = lzma2Chunk(bytes, from) ?? bad('a block ends too early');
    if (chunk === 'end') break;
    if (from + chunk.length > bytes.length || to + chunk.plain > out.length) bad('a chunk goes past the end');
    decoder.decode(bytes, from, chunk).copy(out, to);
    to += chunk.plain;
    from += chunk.length;
  }
  const end = at + Math.ceil((from + 1 - at) / 4) * 4;
  const verifier = new XzVerifier(check);
  verifier.update(out.subarray(target.to, to));
  verifier.verify(bytes, end);
  return { at: end + xzCheckSize(check), to };
}

/** Unpacks one stream that must give exactly `size` bytes. */
export function unpackXz(packed: Buffer, size: number): Buffer {
  const check = readXzHeader(packed);
  const out = Buffer.allocUnsafeSlow(size);
  let place = { at: XZ_HEADER, to: 0 };
  while ((packed[place.at] ?? bad('the stream ends too early')) !== 0) {
    place = unpackXzBlock(packed, place.at, { out, to: place.to }, check);
  }
  if (place.to !== size) bad(`${place.to} bytes, wanted ${size}`);
  return out;
}

/** Unpacks one block, from its header to its checksum, that must give exactly `size` bytes. */
export function unpackWholeXzBlock(packed: Buffer, size: number, check: number): Buffer {
  const out = Buffer.allocUnsafeSlow(size);
  const { to } = unpackXzBlock(packed, 0, { out, to: 0 }, check);
  if (to !== size) bad(`${to} bytes, wanted ${size}`);
  return out;
}

/** The check of a block, over its bytes in order. Numbers without a meaning are not verified. */
export class XzVerifier {
  private readonly check: number;
  private readonly crc64 = new Crc64();
  private readonly sha256 = createHash('sha256');
  private crc = 0;

  constructor(check: number) {
    this.check = check;
  }

  update(bytes: Buffer): void {
    if (this.check === 1) this.crc = crc32(bytes, this.crc);
    if (this.check === 4) this.crc64.update(bytes);
    if (this.check === 10) this.sha256.update(bytes);
  }

  /** Throws a RangeError unless the sum stands at `at`. */
  verify(bytes: Buffer, at: number): void {
    if (bytes.length < at + xzCheckSize(this.check)) bad('the file ends before a checksum');
    if (!this.isAt(bytes, at)) bad('the checksum of a block is wrong');
  }

  private isAt(bytes: Buffer, at: number): boolean {
    if (this.check === 1) return this.crc === bytes.readUInt32LE(at);
    if (this.check === 4) return this.crc64.equals(bytes, at);
    return this.check !== 10 || this.sha256.digest().equals(bytes.subarray(at, at + 32));
  }
}
