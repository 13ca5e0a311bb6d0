import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import type { Disk } from './exercise.ts';
import { fallocate } from './fallocate.ts';

/** A mounted file as a disk to exercise: read, write, fallocate and fsync as any program does them. `flags`: O_DIRECT. */
export async function mountedDisk(
  t: ExecutionContext,
  file: string,
  flags = 0,
): Promise<Disk & { close(): Promise<void> }> {
  const handle = await open(file, constants.O_RDWR | flags);
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => (closed ??= handle.close());
  t.teardown(close);
  return {
    read: (bytes, offset) => readFully(handle, bytes, offset),
    write: (bytes, offset) => writeFully(handle, bytes, offset),
    zero: (offset, length) => fallocate(handle.fd, 'zeroRange', offset, length),
    discard: (offset, length) => fallocate(handle.fd, 'punchHole', offset, length),
    flush: () => handle.datasync(),
    close,
  };
}

async function readFully(handle: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesRead } = await handle.read(bytes, at, bytes.length - at, offset + at);
    if (bytesRead === 0)
      throw new Error(`end of file at ${offset + at}, wanted ${bytes.length - at} bytes more`);
    at += bytesRead;
  }
}

async function writeFully(handle: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, offset + at);
    at += bytesWritten;
  }
}
