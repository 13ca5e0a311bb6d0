import type { RootChild } from '../../../mount/export.ts';
import type { Child } from '../../block/child.ts';
import { WriteFlag, ZeroFlag } from '../../block/driver.ts';

/** The same child, but each write is on stable storage before it is answered (cache=writethrough, directsync). */
export function writeThrough(child: Child): RootChild {
  return {
    get size() {
      return child.size;
    },
    get sizeUnit() {
      return child.sizeUnit;
    },
    tryRead: (bytes, at, length, offset) => child.tryRead(bytes, at, length, offset),
    // A write that must reach the disk always waits.
    tryWrite: () => false,
    read: (bytes, offset) => child.read(bytes, offset),
    write: (bytes, offset, flags) => child.write(bytes, offset, (flags ?? 0) | WriteFlag.fua),
    writeZeroes: (offset, length, flags) => child.writeZeroes(offset, length, (flags ?? 0) | ZeroFlag.fua),
    discard: (offset, length) => child.discard(offset, length),
    flush: () => child.flush(),
    status: (offset, max, out) => child.status(offset, max, out),
    resize: async (size, shrink) => {
      await child.resize(size, shrink);
      await child.flush();
    },
  };
}
