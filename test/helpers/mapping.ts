import type { ExecutionContext } from 'ava';
import koffi from 'koffi';
import { libc } from '../../src/sys/libc.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MS_SYNC = 4;

const mmap = libc.func(
  'void *mmap(intptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
) as (
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => unknown;
const munmap = libc.func('int munmap(void *address, size_t length)') as (
  at: unknown,
  length: number,
) => number;
const msync = libc.func('int msync(void *address, size_t length, int flags)') as (
  at: unknown,
  length: number,
  flags: number,
) => number;

export interface Mapping {
  /** The file's bytes themselves. Whoever touches them waits for the server: it must be another process. */
  readonly bytes: Buffer;
  /** Makes the file have what was written to the bytes. */
  sync(): void;
  unmap(): void;
}

/** Maps the start of an open file, shared, until the test ends at the latest. */
export function mapFile(t: ExecutionContext, fd: number, length: number): Mapping {
  const address = mmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  const bytes = Buffer.from(koffi.view(address, length));
  let isMapped = true;
  const unmap = (): void => {
    if (isMapped && munmap(address, length) !== 0) throw new Error('munmap failed');
    isMapped = false;
  };
  t.teardown(unmap);
  return {
    bytes,
    sync: () => {
      if (msync(address, length, MS_SYNC) !== 0) throw new Error('msync failed');
    },
    unmap,
  };
}
