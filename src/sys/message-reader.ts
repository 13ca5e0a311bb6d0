import { addressOf, errnoNumber, lastErrno, libc } from './libc.ts';

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_DONTWAIT = 0x40;
const ROOM = 65_536;
/** The most that one message can carry. */
const MAX_FDS = 253;
const HEADER = 16;
const CONTROL = HEADER + MAX_FDS * 4 + 4;
const EAGAIN = errnoNumber('EAGAIN');
const EINTR = errnoNumber('EINTR');

const recvmsgCall = libc.func('int64_t recvmsg(int fd, void *message, int flags)') as (
  fd: number,
  message: Buffer,
  flags: number,
) => number;

/** What came: bytes and descriptors (closed on exec; the caller owns them). */
export interface Message {
  readonly bytes: Buffer;
  readonly descriptors: readonly number[];
}

/**
 * Reads a stream socket with the descriptors that are sent along. One for a process: its memory is used again, `bytes` hold
 * until the next read. struct msghdr and cmsghdr: see sockets.ts.
 */
export class MessageReader {
  private readonly data = Buffer.allocUnsafeSlow(ROOM);
  private readonly control = Buffer.alloc(CONTROL);
  private readonly vector = Buffer.alloc(16);
  private readonly header = Buffer.alloc(56);

  constructor() {
    this.vector.writeBigUInt64LE(BigInt(addressOf(this.data)), 0);
    this.vector.writeBigUInt64LE(BigInt(ROOM), 8);
    this.header.writeBigUInt64LE(BigInt(addressOf(this.vector)), 16);
    this.header.writeBigUInt64LE(1n, 24);
    this.header.writeBigUInt64LE(BigInt(addressOf(this.control)), 32);
  }

  /** `end`: the other side has closed, or the connection broke. `empty`: nothing now. */
  read(fd: number): Message | 'empty' | 'end' {
    this.header.writeBigUInt64LE(BigInt(CONTROL), 40);
    const count = recvmsgCall(fd, this.header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0) {
      const number = lastErrno();
      return number === EAGAIN || number === EINTR ? 'empty' : 'end';
    }
    if (count === 0) return 'end';
    return { bytes: this.data.subarray(0, count), descriptors: this.descriptors() };
  }

  private descriptors(): number[] {
    const found: number[] = [];
    const end = Number(this.header.readBigUInt64LE(40));
    for (let at = 0; at + HEADER <= end;) {
      const length = Number(this.control.readBigUInt64LE(at));
      if (length < HEADER) break;
      const isRights =
        this.control.readInt32LE(at + 8) === SOL_SOCKET && this.control.readInt32LE(at + 12) === SCM_RIGHTS;
      const last = isRights ? at + length - 4 : 0;
      for (let place = at + HEADER; place <= last; place += 4) found.push(this.control.readInt32LE(place));
      at += Math.ceil(length / 8) * 8;
    }
    return found;
  }
}
