import type { Child } from '../block/child.ts';
import { isZero } from '../block/zero.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';

const CHUNK = 1024 * 1024;

export interface Comparison {
  /** First byte that differs; undefined when the contents are the same. */
  readonly difference: number | undefined;
  /** The sizes differ; what the longer one has more is zero unless `difference` lies there. */
  readonly sizesDiffer: boolean;
}

/** Compares what two disks read as; the shorter one counts as continued by zeroes. */
export async function compareDisks(left: Child, right: Child, control: JobControl = {}): Promise<Comparison> {
  const total = Math.max(left.size, right.size);
  const common = Math.min(left.size, right.size);
  let difference = Infinity;
  let done = 0;
  const check = async (segment: Segment, other: Child | undefined, disk: Child): Promise<void> => {
    control.signal?.throwIfAborted();
    if (segment.offset < difference) {
      difference = Math.min(difference, await firstDifference(segment, disk, other));
    }
    done += segment.length;
    control.progress?.(done, total);
  };
  await inParallel(segments(left, common, CHUNK), 4, (segment) => check(segment, right, left));
  const longer = left.size > right.size ? left : right;
  if (difference === Infinity && total > common) {
    for await (const segment of segments(longer, total, CHUNK)) {
      if (segment.offset + segment.length > common) await check(segment, undefined, longer);
    }
  }
  return { difference: difference === Infinity ? undefined : difference, sizesDiffer: total !== common };
}

async function firstDifference(segment: Segment, disk: Child, other: Child | undefined): Promise<number> {
  const { offset, length, zero } = segment;
  const bytes = Buffer.alloc(length);
  if (!zero) await disk.read(bytes, offset);
  const against = Buffer.alloc(length);
  if (other !== undefined) await other.read(against, offset);
  else if (isZero(bytes, 0, length)) return Infinity;
  if (bytes.equals(against)) return Infinity;
  for (let at = 0; at < length; at += 1) if (bytes[at] !== against[at]) return offset + at;
  return Infinity;
}
