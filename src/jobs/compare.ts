import type { Child } from '../block/child.ts';
import { BlockStatus } from '../block/extent.ts';
import { inParallel } from './segments.ts';
import type { JobControl } from './segments.ts';
import { SpareBuffers } from './spare-buffers.ts';

const CHUNK = 1024 * 1024;
const LONGEST_EMPTY = 16 * 1024 * CHUNK;

export interface Comparison {
  /** First byte that differs; undefined when the contents are the same. */
  readonly difference: number | undefined;
  /** The sizes differ; what the longer one has more is zero unless `difference` lies there. */
  readonly sizesDiffer: boolean;
}

/** Compares what two disks read as; the shorter one counts as continued by zeroes. */
export async function compareDisks(left: Child, right: Child, control: JobControl = {}): Promise<Comparison> {
  const total = Math.max(left.size, right.size);
  let difference = Infinity;
  let done = 0;
  // Halves: of either disk one.
  const rooms = new SpareBuffers(CHUNK * 2);
  await inParallel(pieces(left, right, total), 4, async (piece) => {
    control.signal?.throwIfAborted();
    if (piece.offset < difference && !(piece.leftZero && piece.rightZero)) {
      const found = await rooms.with((room) => firstDifference(piece, { left, right }, room));
      difference = Math.min(difference, found);
    }
    done += piece.length;
    control.progress?.(done, total);
  });
  return {
    difference: difference === Infinity ? undefined : difference,
    sizesDiffer: left.size !== right.size,
  };
}

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly leftZero: boolean;
  readonly rightZero: boolean;
}

/**
 * Both disks from start to end, in runs that are the same kind throughout: at most a chunk where there is something to
 * read. Where neither has anything the runs get longer and longer: an empty disk of terabytes is told in few questions.
 */
async function* pieces(left: Child, right: Child, total: number): AsyncGenerator<Piece, void, undefined> {
  const [one, other] = [new BlockStatus(), new BlockStatus()];
  let wanted = CHUNK;
  for (let offset = 0; offset < total;) {
    const most = Math.min(wanted, total - offset);
    await statusOf(left, offset, most, one);
    await statusOf(right, offset, one.length, other);
    const empty = one.zero && other.zero;
    const length = empty ? other.length : Math.min(other.length, CHUNK);
    yield { offset, length, leftZero: one.zero, rightZero: other.zero };
    offset += length;
    wanted = empty ? Math.min(wanted * 2, LONGEST_EMPTY) : CHUNK;
  }
}

/** As `status` of the disk tells it; behind its end there are zeroes. */
async function statusOf(disk: Child, offset: number, length: number, into: BlockStatus): Promise<void> {
  if (offset < disk.size) return disk.status(offset, Math.min(length, disk.size - offset), into);
  into.zero = true;
  into.length = length;
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
  { offset, length, leftZero, rightZero }: Piece,
  { left, right }: { readonly left: Child; readonly right: Child },
  room: Buffer,
): Promise<number> {
  const one = room.subarray(0, length);
  const other = room.subarray(CHUNK, CHUNK + length);
  await readOrZero(left, one, offset, leftZero);
  await readOrZero(right, other, offset, rightZero);
  if (one.equals(other)) return Infinity;
  return offset + one.findIndex((byte, at) => byte !== other[at]);
}

async function readOrZero(disk: Child, bytes: Buffer, offset: number, zero: boolean): Promise<void> {
  if (zero) bytes.fill(0);
  else await disk.read(bytes, offset);
}
