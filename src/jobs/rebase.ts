import type { Child } from '../block/child.ts';
import { BlockStatus } from '../block/extent.ts';
import { isZero, ZEROES } from '../block/zero.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';
import { SpareBuffers } from './spare-buffers.ts';

const CHUNK = 1024 * 1024;

/**
 * Before an overlay gets another backing file: whatever it does not hold itself and the two backing files do not agree
 * on is copied into it. Afterwards it reads the same over `next` as it did over `previous`.
 */
export async function keepContent(
  overlay: Child,
  previous: Child | undefined,
  next: Child | undefined,
  control: JobControl = {},
): Promise<void> {
  const total = overlay.size;
  let done = 0;
  // Halves: what was read before, what is read after.
  const rooms = new SpareBuffers(CHUNK * 2);
  await inParallel(segments(overlay, total, CHUNK), 4, async (segment: Segment) => {
    control.signal?.throwIfAborted();
    if (segment.depth > 0 || !segment.allocated) {
      await rooms.with((room) => copyDifference(segment, { overlay, previous, next }, room));
    }
    done += segment.length;
    control.progress?.(done, total);
  });
}

interface Disks {
  readonly overlay: Child;
  readonly previous: Child | undefined;
  readonly next: Child | undefined;
}

async function copyDifference(
  { offset, length }: Segment,
  { overlay, previous, next }: Disks,
  room: Buffer,
): Promise<void> {
  const before = room.subarray(0, length);
  const after = room.subarray(CHUNK, CHUNK + length);
  await readOrZero(previous, before, offset);
  await readOrZero(next, after, offset);
  if (before.equals(after)) return;
  if (isZero(before, 0, length)) await makeZero(overlay, offset, length);
  else await overlay.write(before, offset);
}

async function readOrZero(disk: Child | undefined, bytes: Buffer, offset: number): Promise<void> {
  if (disk === undefined) bytes.fill(0);
  else await disk.read(bytes, offset);
}

/** Zeroes of its own: what reads as zeroes already is left as it is by `writeZeroes`, and would show through later. */
async function makeZero(overlay: Child, offset: number, length: number): Promise<void> {
  await overlay.writeZeroes(offset, length);
  const status = new BlockStatus();
  for (let at = offset; at < offset + length; at += status.length) {
    await overlay.status(at, offset + length - at, status);
    if (status.depth > 0 || !status.allocated) await overlay.write(ZEROES.subarray(0, status.length), at);
  }
}
