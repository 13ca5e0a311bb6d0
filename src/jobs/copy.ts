import type { Child } from '../block/child.ts';
import { ZeroFlag } from '../block/driver.ts';
import { isZero } from '../block/zero.ts';
import { readOrZero } from './salvage.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';
import { SpareBuffers } from './spare-buffers.ts';

export interface CopyOptions extends JobControl {
  /** Bytes a request; 1 MiB unless the target wants its own unit (compressed clusters). */
  readonly chunk?: number;
  readonly parallel?: number;
  /** The target is known to read as zeroes: what is zero in the source is not touched. */
  readonly targetIsZero?: boolean;
  /** Only what this many layers of the source hold: 1 copies the top layer alone (commit). */
  readonly depth?: number;
  /** Runs of zeroes of at least this many bytes inside data are left out as holes; 0 writes every byte. Default 4096. */
  readonly sparse?: number;
  /** The target takes whole units of this many bytes only (compressed clusters); `chunk` and `sparse` are multiples. */
  readonly unit?: number | undefined;
}

const CHUNK = 1024 * 1024;

/** Copies a disk, holes as holes. The target is as large as the source or larger; its rest is made zero. */
export async function copyDisk(source: Child, target: Child, options: CopyOptions = {}): Promise<void> {
  const { chunk = CHUNK, parallel = 8, depth = Infinity, signal } = options;
  const total = Math.min(source.size, target.size);
  let done = 0;
  const buffers = new SpareBuffers(chunk);
  const copy = async (segment: Segment): Promise<void> => {
    signal?.throwIfAborted();
    if (segment.depth < depth) {
      await buffers.with((room) => copySegment(segment, source, target, { ...options, room }));
    }
    done += segment.length;
    options.progress?.(done, total);
  };
  const all = segments(source, total, chunk, options);
  const pieces = options.unit === undefined ? aligned(all, chunk) : wholeChunks(all, chunk);
  await inParallel(pieces, parallel, copy);
  if (target.size > total && options.targetIsZero !== true && depth === Infinity) {
    await target.writeZeroes(total, target.size - total, ZeroFlag.mayUnmap);
  }
}

async function copySegment(
  segment: Segment,
  source: Child,
  target: Child,
  options: CopyOptions & { readonly room: Buffer },
): Promise<void> {
  const { offset, length } = segment;
  const keep = options.targetIsZero === true;
  if (segment.zero && options.sparse !== 0) {
    if (!keep) await target.writeZeroes(offset, length, ZeroFlag.mayUnmap);
    return;
  }
  const bytes = options.room.subarray(0, length);
  await readOrZero(source, bytes, offset, options.lost);
  for (const run of dataRuns(bytes, options.sparse ?? 4096)) {
    const part = bytes.subarray(run.at, run.at + run.length);
    if (!run.zero) await target.write(part, offset + run.at);
    else if (!keep) await target.writeZeroes(offset + run.at, run.length, ZeroFlag.mayUnmap);
  }
}

/** Cuts segments at multiples of `chunk`, so that neighbouring requests never share an allocation unit of it. */
async function* aligned(
  source: AsyncGenerator<Segment, void, undefined>,
  chunk: number,
): AsyncGenerator<Segment, void, undefined> {
  for await (const segment of source) {
    const end = segment.offset + segment.length;
    for (let offset = segment.offset; offset < end;) {
      const stop = Math.min(end, offset - (offset % chunk) + chunk);
      yield { ...segment, offset, length: stop - offset };
      offset = stop;
    }
  }
}

/** Joins segments to whole chunks: a chunk is zero where all of it is. */
export async function* wholeChunks(
  source: AsyncGenerator<Segment, void, undefined>,
  chunk: number,
): AsyncGenerator<Segment, void, undefined> {
  let open: Segment | undefined;
  for await (const segment of aligned(source, chunk)) {
    const joined = open === undefined ? segment : join(open, segment);
    open = (joined.offset + joined.length) % chunk === 0 ? undefined : joined;
    if (open === undefined) yield joined;
  }
  if (open !== undefined) yield open;
}

function join(left: Segment, right: Segment): Segment {
  return {
    offset: left.offset,
    length: left.length + right.length,
    zero: left.zero && right.zero,
    allocated: left.allocated || right.allocated,
    compressed: left.compressed || right.compressed,
    depth: Math.min(left.depth, right.depth),
  };
}

interface Run {
  at: number;
  length: number;
  zero: boolean;
}

function* dataRuns(bytes: Buffer, unit: number): Generator<Run, void, undefined> {
  if (unit === 0) {
    yield { at: 0, length: bytes.length, zero: false };
    return;
  }
  let run: Run | undefined;
  for (let at = 0; at < bytes.length; at += unit) {
    const length = Math.min(unit, bytes.length - at);
    const zero = isZero(bytes, at, length);
    if (run?.zero === zero) {
      run.length += length;
      continue;
    }
    if (run !== undefined) yield run;
    run = { at, length, zero };
  }
  if (run !== undefined) yield run;
}
