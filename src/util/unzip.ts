/** What zlib and Zstandard pack, unpacked on this thread: for threads of their own, and for what is short. */
import { inflateRawSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import { zstdFrameLength } from './zstd-frame.ts';

/** An output chunk that is filled to its end makes zlib allocate another one for nothing. */
const SPARE = 64;

/** Deflate without a header; bytes behind its end are not looked at. */
export function unpackDeflate(packed: Buffer, size: number): Buffer {
  return exactly(inflateRawSync(packed, { chunkSize: chunkFor(size), maxOutputLength: size }), size);
}

/** Deflate with the header and checksum of zlib (RFC 1950). */
export function unpackZlib(packed: Buffer, size: number): Buffer {
  return exactly(inflateSync(packed, { chunkSize: chunkFor(size), maxOutputLength: size }), size);
}

/** One or more Zstandard frames. The decoder refuses bytes behind them, so they are cut off. */
export function unpackZstd(packed: Buffer, size: number): Buffer {
  const pieces: Buffer[] = [];
  let total = 0;
  for (let at = 0; total < size;) {
    const length = zstdFrameLength(packed, at);
    if (length === 0) throw new RangeError(`no whole Zstandard frame at byte ${at} of ${packed.length}`);
    const max = size - total;
    const options = { chunkSize: chunkFor(max), maxOutputLength: max };
    const piece = zstdDecompressSync(packed.subarray(at, at + length), options);
    pieces.push(piece);
    total += piece.length;
    at += length;
  }
  return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
}

const chunkFor = (size: number): number => size + SPARE;

function exactly(plain: Buffer, size: number): Buffer {
  if (plain.length === size) return plain;
  throw new RangeError(`it decompresses to ${plain.length} bytes, must be ${size}`);
}
