import { inflateRaw, zstdDecompress } from 'node:zlib';
import { zstdFrameLength } from './zstd-frame.ts';

/** Fills exactly one cluster from its stored bytes, which may be followed by others; on the thread pool. */
export type Decompress = (stored: Buffer, clusterSize: number) => Promise<Buffer>;

/** Beyond the cluster: an output chunk that is filled to its end makes zlib allocate another one for nothing. */
const CHUNK_SPARE = 64;

/** Deflate without a header (specification: compression type 0). Writers use a window of 12 bits; any is read. */
export async function inflateCluster(stored: Buffer, clusterSize: number): Promise<Buffer> {
  return checked(await inflate(stored, clusterSize), clusterSize);
}

function inflate(stored: Buffer, max: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    inflateRaw(stored, { chunkSize: max + CHUNK_SPARE, maxOutputLength: max }, (error, result) => {
      if (error !== null) reject(error);
      else resolve(result);
    });
  });
}

/** One or more Zstandard frames. The decoder refuses bytes behind them, so they are cut off. */
export async function unzstdCluster(stored: Buffer, clusterSize: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let total = 0;
  for (let at = 0; total < clusterSize;) {
    const length = zstdFrameLength(stored, at);
    if (length === 0) throw new RangeError(`no whole Zstandard frame at byte ${at} of ${stored.length}`);
    const piece = await unzstd(stored.subarray(at, at + length), clusterSize - total);
    pieces.push(piece);
    total += piece.length;
    at += length;
  }
  return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
}

function unzstd(frame: Buffer, max: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    zstdDecompress(frame, { chunkSize: max + CHUNK_SPARE, maxOutputLength: max }, (error, result) => {
      if (error !== null) reject(error);
      else resolve(result);
    });
  });
}

function checked(result: Buffer, clusterSize: number): Buffer {
  if (result.length === clusterSize) return result;
  throw new RangeError(`it decompresses to ${result.length} bytes, must be ${clusterSize}`);
}
