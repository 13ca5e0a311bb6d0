/** What O_DIRECT wants of offsets, lengths and memory addresses. */
import fs from 'node:fs';
import { addressOf, libc } from './libc.ts';
import { allocateAligned } from './memory.ts';

const AT_EMPTY_PATH = 0x1000;
const STATX_DIOALIGN = 0x2000;
const STATX_SIZE = 256;
const MASK_AT = 0;
const MEMORY_ALIGN_AT = 0x98;
const OFFSET_ALIGN_AT = 0x9c;
const LARGEST = 4096;

const statx = libc.func('int statx(int dir, const char *path, int flags, uint32_t mask, uintptr_t out)') as (
  dir: number,
  path: string,
  flags: number,
  mask: number,
  out: number,
) => number;

export interface DirectIoAlignment {
  /** Bytes; powers of two. */
  readonly request: number;
  readonly memory: number;
}

/** Finds the alignment for a descriptor opened with O_DIRECT: as the kernel says, else by trying, else 4096. */
export function directIoAlignment(fd: number): DirectIoAlignment {
  return askKernel(fd) ?? tryReads(fd);
}

function askKernel(fd: number): DirectIoAlignment | undefined {
  const out = Buffer.alloc(STATX_SIZE);
  if (statx(fd, '', AT_EMPTY_PATH, STATX_DIOALIGN, addressOf(out)) !== 0) return undefined;
  const memory = out.readUInt32LE(MEMORY_ALIGN_AT);
  const request = out.readUInt32LE(OFFSET_ALIGN_AT);
  const answered = Math.floor(out.readUInt32LE(MASK_AT) / STATX_DIOALIGN) % 2 === 1;
  return answered && memory > 0 && request > 0 ? { request, memory } : undefined;
}

function tryReads(fd: number): DirectIoAlignment {
  if (fs.fstatSync(fd).size === 0) return { request: LARGEST, memory: LARGEST };
  const bytes = allocateAligned(LARGEST, LARGEST);
  for (let request = 512; request < LARGEST; request *= 2) {
    try {
      fs.readSync(fd, bytes, 0, request, 0);
      return { request, memory: LARGEST };
    } catch {
      // EINVAL: not aligned enough. Any other failure shows itself at the first real read.
    }
  }
  return { request: LARGEST, memory: LARGEST };
}
