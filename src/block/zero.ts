import { ZeroFlag } from './driver.ts';
import { BlockError } from './errors.ts';
import type { NodeIo } from './node-io.ts';
import type { RangeLocks } from './ranges.ts';
import { outsideUnits, writeAligned } from './read-modify-write.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

const CHUNK = 1024 * 1024;
/** Never written to. */
export const ZEROES = Buffer.alloc(CHUNK);

/** Whether bytes[at, at+length) holds only zeroes. The first bytes decide for nearly all real data. */
export function isZero(bytes: Buffer, at: number, length: number): boolean {
  if (length === 0) return true;
  if (bytes[at] !== 0 || bytes[at + length - 1] !== 0 || bytes[at + (length >> 1)] !== 0) return false;
  for (let done = 0; done < length; done += CHUNK) {
    const step = Math.min(CHUNK, length - done);
    if (bytes.compare(ZEROES, 0, step, at + done, at + done + step) !== 0) return false;
  }
  return true;
}

/**
 * Makes a range read as zeroes: by the driver's own way for the part that is aligned to it, by writing zeroes for the
 * rest and where the driver has no such way (unless the caller would rather hear ENOTSUP).
 */
export async function writeZeroBytes(
  io: NodeIo,
  locks: RangeLocks,
  request: { offset: number; length: number; flags: number },
): Promise<void> {
  const { offset, length, flags } = request;
  const end = offset + length;
  const { zeroesAlignment, maxZeroes } = io.limits;
  const start = Math.min(end, alignUp(offset, zeroesAlignment));
  const stop = Math.max(start, alignDown(end, zeroesAlignment));
  const step = alignDown(Math.min(maxZeroes, Number.MAX_SAFE_INTEGER - zeroesAlignment), zeroesAlignment);
  if (start > offset) await writeChunks(io, locks, offset, start);
  for (let at = start; at < stop; at += step) {
    const piece = Math.min(step, stop - at);
    try {
      await outsideUnits(io, locks, { offset: at, length: piece }, () =>
        io.writeZeroes(at, piece, flags & ~ZeroFlag.fua),
      );
    } catch (error) {
      if (!(error instanceof BlockError) || error.code !== 'ENOTSUP') throw error;
      if ((flags & ZeroFlag.noFallback) !== 0) throw error;
      await writeChunks(io, locks, at, at + piece);
    }
  }
  if (end > stop) await writeChunks(io, locks, stop, end);
}

async function writeChunks(io: NodeIo, locks: RangeLocks, start: number, end: number): Promise<void> {
  for (let at = start; at < end; at += CHUNK) {
    await writeAligned(io, locks, ZEROES.subarray(0, Math.min(CHUNK, end - at)), at);
  }
}
