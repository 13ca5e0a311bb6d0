import type { Child } from '../block/child.ts';
import { BlockStatus } from '../block/extent.ts';
import { isZero } from '../block/zero.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';
import { SpareBuffers } from './spare-buffers.ts';

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
  // Halves: of either disk one.
  const rooms = new SpareBuffers(CHUNK * 2);
  const check = async (segment: Segment, other: Child | undefined, disk: Child): Promise<void> => {
    control.signal?.throwIfAborted();
    if (segment.offset < difference) {
      const found = await rooms.with((room) => firstDifference(segment, { disk, other }, room));
      difference = Math.min(difference, found);
    }
    done += segment.length;
    control.progress?.(done, total);
  };
  await inParallel(segments(left, common, CHUNK), 4, (segment) => check(segment, right, left));
  const longer = left.size > right.size ? left : right;
  if (difference === Infinity && total > common) {
    for await (const segment of segments(longer, total, CHUNK)) {
      const end = segment.offset + segment.length;
      const offset = Math.max(segment.offset, common);
      if (end > offset) await check({ ...segment, offset, length: end - offset }, undefined, longer);
    }
  }
  return { difference: difference === Infinity ? undefined : difference, sizesDiffer: total !== common };
}

/** First byte where one disk has zeroes, nothing, or compressed data and the other has not; undefined: nowhere. */
export async function firstStatusDifference(left: Child, right: Child): Promise<number | undefined> {
  const common = Math.min(left.size, right.size);
  const [one, other] = [new BlockStatus(), new BlockStatus()];
  for (let offset = 0; offset < common; offset += Math.min(one.length, other.length)) {
    await left.status(offset, common - offset, one);
    await right.status(offset, common - offset, other);
    const same =
      one.allocated === other.allocated && one.zero === other.zero && one.compressed === other.compressed;
    if (!same) return offset;
  }
  return undefined;
}

async function firstDifference(
  { offset, length, zero }: Segment,
  { disk, other }: { readonly disk: Child; readonly other: Child | undefined },
  room: Buffer,
): Promise<number> {
  const bytes = room.subarray(0, length);
  const against = room.subarray(CHUNK, CHUNK + length);
  if (!zero) await disk.read(bytes, offset);
  if (other !== undefined) await other.read(against, offset);
  if (zero && (other === undefined || isZero(against, 0, length))) return Infinity;
  if (zero) bytes.fill(0);
  if (other === undefined && isZero(bytes, 0, length)) return Infinity;
  if (other === undefined) against.fill(0);
  if (bytes.equals(against)) return Infinity;
  for (let at = 0; at < length; at += 1) if (bytes[at] !== against[at]) return offset + at;
  return Infinity;
}
