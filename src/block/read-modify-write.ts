import type { NodeIo } from './node-io.ts';
import type { RangeLock, RangeLocks } from './ranges.ts';
import { alignDown, alignUp } from '../util/sizes.ts';

/** Reads any range through a driver that has an alignment and a largest transfer. */
export async function readAligned(io: NodeIo, bytes: Buffer, offset: number): Promise<void> {
  const unit = io.limits.requestAlignment;
  const start = alignDown(offset, unit);
  const end = alignUp(offset + bytes.length, unit);
  if (start === offset && end === offset + bytes.length) {
    await inSteps(io, bytes.length, (at, length) => io.read(bytes.subarray(at, at + length), offset + at));
    return;
  }
  const wide = Buffer.allocUnsafe(end - start);
  await inSteps(io, wide.length, (at, length) => io.read(wide.subarray(at, at + length), start + at));
  wide.copy(bytes, 0, offset - start);
}

/**
 * Writes any range: the units it only touches are read, patched and written back with nobody else inside. `locks` are
 * the node's alignment locks, always taken before the range locks that a mapping driver's writes take.
 */
export async function writeAligned(
  io: NodeIo,
  locks: RangeLocks,
  bytes: Buffer,
  offset: number,
): Promise<void> {
  const unit = io.limits.requestAlignment;
  const start = alignDown(offset, unit);
  const end = alignUp(offset + bytes.length, unit);
  const aligned = start === offset && end === offset + bytes.length;
  if (unit === 1) {
    await inSteps(io, bytes.length, (at, length) =>
      io.write(bytes.subarray(at, at + length), offset + at, 0),
    );
    return;
  }
  const lock: RangeLock = await locks.acquire(start, end - start, !aligned);
  try {
    if (aligned) {
      await inSteps(io, bytes.length, (at, length) =>
        io.write(bytes.subarray(at, at + length), offset + at, 0),
      );
      return;
    }
    const wide = Buffer.alloc(end - start);
    await io.read(wide.subarray(0, unit), start);
    if (end - start > unit) await io.read(wide.subarray(wide.length - unit), end - unit);
    bytes.copy(wide, offset - start);
    await inSteps(io, wide.length, (at, length) => io.write(wide.subarray(at, at + length), start + at, 0));
  } finally {
    lock.release();
  }
}

/**
 * Runs a change that is no write (zeroes, discard) with no read-modify-write under way in a unit it touches: one that
 * had read before would write the old bytes back.
 */
export async function outsideUnits(
  io: NodeIo,
  locks: RangeLocks,
  range: { offset: number; length: number },
  run: () => Promise<void>,
): Promise<void> {
  if (io.limits.requestAlignment === 1) {
    await run();
    return;
  }
  const lock = await locks.acquire(range.offset, range.length, false);
  try {
    await run();
  } finally {
    lock.release();
  }
}

async function inSteps(
  io: NodeIo,
  total: number,
  run: (at: number, length: number) => Promise<void>,
): Promise<void> {
  const { maxTransfer, requestAlignment } = io.limits;
  const step = maxTransfer >= total ? total : alignDown(maxTransfer, requestAlignment);
  for (let at = 0; at < total; at += step) await run(at, Math.min(step, total - at));
}
