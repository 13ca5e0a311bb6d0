/**
 * Reading and writing a descriptor at an offset: at once where that takes no waiting, else in the thread pool.
 *
 * A hop through the thread pool costs 16-50 us, the system call under 1 us. So `tryRead` asks the kernel for what the page
 * cache has (RWF_NOWAIT) and `tryWrite` copies into the page cache. Both allocate nothing: one iovec lives as long as
 * the process, and addresses are passed as numbers.
 */
import fs from 'node:fs';
import { performance } from 'node:perf_hooks';
import { BlockError } from '../block/errors.ts';
import type { OpenFile } from './file.ts';
import { fileError } from './file-error.ts';
import { LargeFolios } from './large-folios.ts';
import { addressOf, errnoName, lastErrno, libc } from './libc.ts';
import { addressIn } from './memory.ts';

const RWF_NOWAIT = 8;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;
/** ext2 and ext3 have the same. */
const EXT4_MAGIC = 0xef53;
const WORD = 2 ** 32;
/** A synchronous write that took longer (ms) blocked on the disk: it holds up every other request. */
const SLOW_WRITE = 5;
/**
 * How long (ms) writes then go through the thread pool: little at first, since a busy machine interrupts a write now and then,
 * and twice as long each time the next try is slow again.
 */
const FIRST_PAUSE = 10;
const LONGEST_PAUSE = 1000;
const SECTOR = 512;
const MAX_CHUNK = 2 ** 30;

const preadv2 = libc.func('int64_t preadv2(int fd, uintptr_t iov, int count, int64_t offset, int flags)') as (
  fd: number,
  iov: number,
  count: number,
  offset: number,
  flags: number,
) => number;
const pwrite = libc.func('int64_t pwrite(int fd, uintptr_t bytes, size_t length, int64_t offset)') as (
  fd: number,
  bytes: number,
  length: number,
  offset: number,
) => number;

/** struct iovec { void *base; size_t length } as four 32-bit words; the buffer behind it is never replaced. */
const iovec = new Uint32Array(4);
const iovecAddress = addressOf(Buffer.from(iovec.buffer));

/** How reads that must not wait are made: RWF_NOWAIT, any read (the file is memory), or not at all. */
type InstantReads = 'nowait' | 'always' | 'never';

function readInto(fd: number, address: number, length: number, offset: number, flags: number): number {
  iovec[0] = address % WORD;
  iovec[1] = address / WORD;
  iovec[2] = length;
  return preadv2(fd, iovecAddress, 1, offset, flags);
}

function instantReads(fd: number): InstantReads {
  const probe = Buffer.alloc(8);
  if (readInto(fd, addressOf(probe), 1, 0, RWF_NOWAIT) >= 0 || errnoName(lastErrno()) === 'EAGAIN')
    return 'nowait';
  const type = fileSystemType(fd);
  return type === TMPFS_MAGIC || type === RAMFS_MAGIC ? 'always' : 'never';
}

function fileSystemType(fd: number): number {
  return fs.statfsSync(`/proc/self/fd/${fd}`).type;
}

/** Positioned I/O on one descriptor, which the caller opened and closes. Offsets and lengths are bytes. */
export class PositionedIo implements OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly direct: boolean;
  private canTry: boolean;
  private readonly readFlags: number;
  private writeSlowlyUntil = 0;
  private nextPause = FIRST_PAUSE;
  private readonly folios: LargeFolios | undefined;
  private readonly probe = Buffer.alloc(8);
  private underWay = 0;
  private isRetired = false;
  private unused: (() => void) | undefined;

  /** @param direct the descriptor is O_DIRECT: every request goes to the device, none is tried at once */
  constructor({ fd, path }: OpenFile, direct: boolean) {
    const reads = direct ? 'never' : instantReads(fd);
    this.fd = fd;
    this.path = path;
    this.direct = direct;
    this.canTry = reads !== 'never';
    this.readFlags = reads === 'nowait' ? RWF_NOWAIT : 0;
    if (reads === 'nowait' && fileSystemType(fd) === EXT4_MAGIC)
      this.folios = new LargeFolios(fd, (offset) => this.tryRead(this.probe, 0, 1, offset));
  }

  /** Fills bytes[at, at+length) if that takes no waiting. False: it would wait, the file ends before, or it failed. */
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (!this.canTry) return false;
    checkBounds(bytes, at, length);
    return readInto(this.fd, addressIn(bytes, at), length, offset, this.readFlags) === length;
  }

  /** Writes into the page cache. False: it may wait, or it failed; a part of the bytes may be written then. */
  tryWrite(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (!this.canTry) return false;
    checkBounds(bytes, at, length);
    const start = performance.now();
    if (start < this.writeSlowlyUntil) return false;
    this.folios?.beforeWrite(offset, length, start);
    const written = pwrite(this.fd, addressIn(bytes, at), length, offset);
    this.judge(start, performance.now());
    return written === length;
  }

  /**
   * Runs calls that wait and take the descriptor by its number: it stays open until they are over. A call that waits for a
   * thread when the number is closed would meet whatever file has that number by then.
   */
  async during<Result>(calls: () => Promise<Result>): Promise<Result> {
    if (this.isRetired) throw new BlockError('EBADF', `Cannot use "${this.path}": it is closed`);
    this.underWay += 1;
    try {
      return await calls();
    } finally {
      this.underWay -= 1;
      if (this.underWay === 0) this.unused?.();
    }
  }

  /** From now on nothing is begun. Resolves when all that is under way is over: then the descriptor may be closed. */
  async retire(): Promise<void> {
    this.isRetired = true;
    this.canTry = false;
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.unused = resolve));
  }

  /** Decides from how long a write took whether the next ones may be made at once. */
  private judge(start: number, end: number): void {
    if (end - start <= SLOW_WRITE) {
      this.nextPause = FIRST_PAUSE;
      return;
    }
    this.writeSlowlyUntil = end + this.nextPause;
    this.nextPause = Math.min(LONGEST_PAUSE, this.nextPause * 2);
  }

  /** Fills `bytes` in the thread pool; what lies past the end of the file reads as zeroes. */
  read(bytes: Buffer, offset: number): Promise<void> {
    return this.during(() => this.readAll(bytes, offset));
  }

  /** Writes all of `bytes` in the thread pool. */
  write(bytes: Buffer, offset: number): Promise<void> {
    return this.during(() => this.writeAll(bytes, offset));
  }

  private async readAll(bytes: Buffer, offset: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const count = await readSome(this, bytes, done, offset + done);
      done += count;
      // With O_DIRECT an odd count means the end of the file, and the next offset would not be aligned.
      if (count === 0 || (this.direct && count % SECTOR !== 0)) break;
    }
    bytes.fill(0, done);
  }

  private async writeAll(bytes: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const count = await writeSome(this, bytes, done, offset + done);
      if (count === 0)
        throw new BlockError('EIO', `Cannot write to "${this.path}": the system took no bytes`);
      done += count;
    }
  }
}

/** The system call believes its arguments: a length beyond the buffer would overwrite whatever memory lies behind it. */
function checkBounds(bytes: Buffer, at: number, length: number): void {
  if (at >= 0 && length >= 0 && at + length <= bytes.length) return;
  throw new BlockError('EINVAL', `Cannot transfer ${length} bytes at ${at}: the buffer has ${bytes.length}`);
}

function readSome({ fd, path }: OpenFile, bytes: Buffer, at: number, offset: number): Promise<number> {
  const length = Math.min(bytes.length - at, MAX_CHUNK);
  return new Promise((resolve, reject) => {
    fs.read(fd, bytes, at, length, offset, (error, count) => {
      if (error === null) resolve(count);
      else reject(fileError(`Cannot read "${path}"`, error));
    });
  });
}

function writeSome({ fd, path }: OpenFile, bytes: Buffer, at: number, offset: number): Promise<number> {
  const length = Math.min(bytes.length - at, MAX_CHUNK);
  return new Promise((resolve, reject) => {
    fs.write(fd, bytes, at, length, offset, (error, count) => {
      if (error === null) resolve(count);
      else reject(fileError(`Cannot write to "${path}"`, error));
    });
  });
}
