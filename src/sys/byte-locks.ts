/**
 * Locks on single bytes of a file that belong to an open file description (F_OFD_*), all shared ("read") locks. Whether somebody else holds a
 * lock is asked, without taking it, by testing for an exclusive one. Locks never wait. They end with the descriptor.
 */
import { addressOf, errnoName, lastErrno, libc, systemError } from './libc.ts';

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

const fcntl = libc.func('int fcntl(int fd, int command, uintptr_t lock)') as (
  fd: number,
  command: number,
  lock: number,
) => number;

/** struct flock: i16 type at 0, i16 whence at 2, i64 start at 8, i64 length at 16, i32 pid at 24 (0 for OFD locks). */
const flock = Buffer.alloc(32);
const flockAddress = addressOf(flock);

function fill(type: number, byte: number): void {
  flock.fill(0);
  flock.writeInt16LE(type, 0);
  flock.writeUInt32LE(byte, 8);
  flock.writeUInt32LE(1, 16);
}

/** Takes a shared lock. False: somebody holds the byte exclusively. Throws where the file system has no such locks. */
export function lockByte(fd: number, byte: number): boolean {
  fill(F_RDLCK, byte);
  if (fcntl(fd, F_OFD_SETLK, flockAddress) === 0) return true;
  const errno = lastErrno();
  const code = errnoName(errno);
  if (code === 'EAGAIN' || code === 'EACCES') return false;
  throw systemError(`Cannot lock byte ${byte}`, errno);
}

/** Gives the lock back; nothing happens when it is not held. */
export function unlockByte(fd: number, byte: number): void {
  fill(F_UNLCK, byte);
  if (fcntl(fd, F_OFD_SETLK, flockAddress) !== 0) throw systemError(`Cannot unlock byte ${byte}`);
}

/** Whether another open file description holds any lock on the byte. */
export function isByteLockedByOthers(fd: number, byte: number): boolean {
  fill(F_WRLCK, byte);
  if (fcntl(fd, F_OFD_GETLK, flockAddress) !== 0) throw systemError(`Cannot test the lock of byte ${byte}`);
  return flock.readInt16LE(0) !== F_UNLCK;
}

/** Whether the file system behind `fd` (open for reading) has these locks. */
export function hasByteLocks(fd: number): boolean {
  try {
    isByteLockedByOthers(fd, 100);
    return true;
  } catch {
    return false;
  }
}
