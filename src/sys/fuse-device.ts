/** The FUSE device and what belongs to it: reading and writing without allocation, mount, umount, passthrough. */
import { closeSync, constants, openSync, write as writeInPool } from 'node:fs';
import { BlockError, errnoOf } from '../block/errors.ts';
import { errnoNumber, lastErrno, libc, systemError } from './libc.ts';

const DEVICE = '/dev/fuse';
const EAGAIN = errnoNumber('EAGAIN');
const EINTR = errnoNumber('EINTR');
const F_GETFL = 3;
const F_SETFL = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const BACKING_OPEN = 0x4010e501;
const BACKING_CLOSE = 0x4004e502;

type Transfer = (fd: number, address: number, length: number) => number;
type Call = (...values: unknown[]) => number;
type AsyncCall = Call & { async(...values: unknown[]): void };

const readCall = libc.func('int64_t read(int fd, uintptr_t address, size_t length)') as Transfer;
const writeCall = libc.func('int64_t write(int fd, uintptr_t address, size_t length)') as Transfer;
const fcntlCall = libc.func('int fcntl(int fd, int command, ...)') as Call;
const ioctlCall = libc.func('int ioctl(int fd, unsigned long request, ...)') as Call;
const mountCall = libc.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
) as AsyncCall;
const umountCall = libc.func('int umount2(const char *target, int flags)') as AsyncCall;

/** An open FUSE device. Addresses are numbers (libc.ts addressOf); their owner keeps the memory alive. */
export class FuseDevice {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
    const flags = fcntlCall(fd, F_GETFL);
    if (flags < 0 || fcntlCall(fd, F_SETFL, 'int', flags | constants.O_NONBLOCK) < 0) {
      throw systemError(`Cannot make "${DEVICE}" non-blocking`);
    }
  }

  /** Bytes of the next request; 0 when there is none; a negative errno (-ENODEV: unmounted) else. */
  read(address: number, length: number): number {
    const count = readCall(this.fd, address, length);
    if (count >= 0) return count;
    const error = lastErrno();
    return error === EAGAIN || error === EINTR ? 0 : -error;
  }

  /** 0, or a negative errno (-ENOENT: nobody waits for this answer any more). */
  write(address: number, length: number): number {
    return writeCall(this.fd, address, length) >= 0 ? 0 : -lastErrno();
  }

  /** From the thread pool: for notifications, which may wait for a request that this very thread has to answer. */
  writeLater(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      writeInPool(this.fd, bytes, 0, bytes.length, null, (error) => {
        if (error === null) resolve();
        else reject(new BlockError(errnoOf(error), `Cannot notify "${DEVICE}": ${error.message}`, {}, error));
      });
    });
  }

  /** Registers a host file for passthrough; returns its backing id. Needs CAP_SYS_ADMIN. */
  openBacking(hostFd: number): number {
    const map = Buffer.alloc(16);
    map.writeInt32LE(hostFd, 0);
    const id = ioctlCall(this.fd, BACKING_OPEN, 'void *', map);
    if (id < 0) throw systemError('Cannot register a file for passthrough');
    return id;
  }

  closeBacking(id: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(id, 0);
    if (ioctlCall(this.fd, BACKING_CLOSE, 'void *', bytes) < 0)
      throw systemError('Cannot end passthrough of a file');
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Opens the device. The error says what to do when it is missing or not permitted. */
export function openFuseDevice(): FuseDevice {
  try {
    return new FuseDevice(openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (error) {
    throw new BlockError(
      errnoOf(error),
      `Cannot open "${DEVICE}": ${hintFor(error)}`,
      { path: DEVICE },
      error,
    );
  }
}

function hintFor(error: unknown): string {
  const code = errnoOf(error);
  if (code === 'ENOENT')
    return 'it does not exist, the kernel module "fuse" must be loaded (in a container: --device /dev/fuse)';
  if (code === 'ENODEV' || code === 'ENXIO')
    return 'the kernel has no FUSE, the module "fuse" must be loaded';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied, access to the FUSE device is needed';
  return error instanceof Error ? error.message : String(error);
}

export interface MountCall {
  readonly source: string;
  readonly target: string;
  /** `fuse.blockfuse` */
  readonly type: string;
  /** MS_* bits */
  readonly flags: number;
  readonly data: string;
}

/** mount(2), in the thread pool: the way to the target may lead through what this process serves. */
export function mountFileSystem(call: MountCall): Promise<void> {
  return new Promise((resolve, reject) => {
    const { source, target, type, flags, data } = call;
    mountCall.async(source, target, type, flags, data, (failure: unknown, result: number) => {
      if (failure === null && result === 0) resolve();
      else reject(failure === null ? systemError(`Cannot mount "${target}"`) : failure);
    });
  });
}

/** umount2(2) in the thread pool: it may wait for requests that this process answers. */
export function unmountFileSystem(target: string, lazy: boolean): Promise<void> {
  const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
  return new Promise((resolve, reject) => {
    umountCall.async(target, flags, (failure: unknown, result: number) => {
      if (failure === null && result === 0) resolve();
      else reject(failure === null ? systemError(`Cannot unmount "${target}"`) : failure);
    });
  });
}
