import type { Child } from '../block/child.ts';
import { isZero } from '../block/zero.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';

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
  await inParallel(segments(overlay, total, CHUNK), 4, async (segment: Segment) => {
    control.signal?.throwIfAborted();
    if (segment.depth > 0 || !segment.allocated) await copyDifference(segment, overlay, previous, next);
    done += segment.length;
    control.progress?.(done, total);
  });
}

async function copyDifference(
  segment: Segment,
  overlay: Child,
  previous: Child | undefined,
  next: Child | undefined,
): Promise<void> {
  const { offset, length } = segment;
  const before = Buffer.alloc(length);
  const after = Buffer.alloc(length);
  await previous?.read(before, offset);
  await next?.read(after, offset);
  if (before.equals(after)) return;
  if (isZero(before, 0, length)) await overlay.writeZeroes(offset, length);
  else await overlay.write(before, offset);
}
