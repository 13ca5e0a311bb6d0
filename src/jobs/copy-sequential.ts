import type { Child } from '../block/child.ts';
import type { SequentialWriter } from '../block/driver.ts';
import { alignUp } from '../util/sizes.ts';
import { wholeChunks } from './copy.ts';
import { readOrZero } from './salvage.ts';
import { inParallel, segments } from './segments.ts';
import type { JobControl, Segment } from './segments.ts';
import { SpareBuffers } from './spare-buffers.ts';

const CHUNK = 1024 * 1024;
/** Pieces that are read, packed and written at once: memory is so many chunks, twice. */
const PARALLEL = 8;

/** Copies a disk front to back; reading and packing run ahead, the order of the pieces stays. */
export async function copySequentially(
  source: Child,
  target: SequentialWriter,
  control: JobControl = {},
): Promise<void> {
  const total = source.size;
  const chunk = alignUp(CHUNK, target.unit);
  let done = 0;
  let turn: Promise<void> = Promise.resolve();
  const rooms = new SpareBuffers(chunk);
  const copy = async ({ offset, length, zero }: Segment, room: Buffer): Promise<void> => {
    const before = turn;
    const own = Promise.withResolvers<void>();
    turn = own.promise;
    try {
      control.signal?.throwIfAborted();
      const bytes = room.subarray(0, length);
      if (!zero) await readOrZero(source, bytes, offset, control.lost);
      await before;
      const written = zero ? undefined : target.write(bytes, offset);
      own.resolve();
      await written;
    } finally {
      own.resolve();
    }
    done += length;
    control.progress?.(done, total);
  };
  await inParallel(wholeChunks(segments(source, total, chunk, control), chunk), PARALLEL, (segment) =>
    rooms.with((room) => copy(segment, room)),
  );
  await target.finish();
}
