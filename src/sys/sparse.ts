/** Holes: making them, and finding them. Offsets and lengths are bytes. */
import { BlockError, errnoOf } from '../block/errors.ts';
import type { LibcFunction } from './background-call.ts';
import { callInBackground } from './background-call.ts';
import type { OpenFile } from './file.ts';
import { errnoName, lastErrno, libc } from './libc.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 0x10;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const fallocate = libc.func(
  'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
) as unknown as LibcFunction;
const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)') as (
  fd: number,
  offset: number,
  whence: number,
) => number;

/** Frees the range; it reads as zeroes. The size stays. Rejects with ENOTSUP where the file system can't. */
export function punchHole(file: OpenFile, offset: number, length: number): Promise<void> {
  return allocate('punch a hole', file, { mode: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length });
}

/** Makes the range read as zeroes and keeps its space; grows the file. Rejects with ENOTSUP where the file system can't. */
export function zeroRange(file: OpenFile, offset: number, length: number): Promise<void> {
  return allocate('zero a range', file, { mode: FALLOC_FL_ZERO_RANGE, offset, length });
}

/** Reserves space for the range; data stays. With `keepSize` also behind the end of the file without growing it. */
export function reserve(file: OpenFile, offset: number, length: number, keepSize: boolean): Promise<void> {
  return allocate('reserve space', file, { mode: keepSize ? FALLOC_FL_KEEP_SIZE : 0, offset, length });
}

/** What lseek answers: the offset of the next data or hole, `end` when there is none, or that it can't be told. */
export type SeekResult = number | 'end' | 'unknown';

/** The first byte at or after `offset` that may hold data. Moves the descriptor's own position, which nobody here uses. */
export const seekData = (fd: number, offset: number): SeekResult => seek(fd, offset, SEEK_DATA);

/** The first byte at or after `offset` that lies in a hole; the end of the file is one. */
export const seekHole = (fd: number, offset: number): SeekResult => seek(fd, offset, SEEK_HOLE);

function seek(fd: number, offset: number, whence: number): SeekResult {
  const found = lseek(fd, offset, whence);
  if (found >= 0) return found;
  return errnoName(lastErrno()) === 'ENXIO' ? 'end' : 'unknown';
}

interface Allocation {
  readonly mode: number;
  readonly offset: number;
  readonly length: number;
}

async function allocate(
  what: string,
  { fd, path }: OpenFile,
  { mode, offset, length }: Allocation,
): Promise<void> {
  const action = `Cannot ${what} in "${path}"`;
  for (;;) {
    try {
      await callInBackground(action, fallocate, [fd, mode, offset, length]);
      return;
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'EINTR') continue;
      if (code === 'ENODEV' || code === 'ENOSYS')
        throw new BlockError('ENOTSUP', `${action}: not supported`, {}, error);
      throw error;
    }
  }
}
