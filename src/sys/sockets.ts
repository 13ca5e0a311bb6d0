/** Unix sockets beyond what node:net offers: pairs, and descriptors sent over them. */
import { closeSync } from 'node:fs';
import { BlockError } from '../block/errors.ts';
import { addressOf, libc, systemError } from './libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;

const socketpairCall = libc.func('int socketpair(int domain, int type, int protocol, void *fds)') as (
  domain: number,
  type: number,
  protocol: number,
  fds: Int32Array,
) => number;
const recvmsgCall = libc.func('int64_t recvmsg(int fd, void *message, int flags)') as (
  fd: number,
  message: Buffer,
  flags: number,
) => number;

/** Two connected stream sockets; both are closed on exec. The caller closes them. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  if (socketpairCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
    throw systemError('Cannot make a socket pair');
  return [fds[0] ?? -1, fds[1] ?? -1];
}

/**
 * Takes the descriptor that the other end has sent, closed on exec here. Undefined when the other end closed without
 * sending one. Waits if nothing was sent yet: call it when the sender is done.
 */
export function receiveDescriptor(socket: number): number | undefined {
  const message = new DescriptorMessage();
  const received = recvmsgCall(socket, message.header, MSG_CMSG_CLOEXEC);
  if (received < 0) throw systemError('Cannot receive a descriptor');
  return received === 0 ? undefined : message.descriptor();
}

/**
 * struct msghdr (56 bytes on 64-bit Linux) with one byte of data and room for one control message:
 *   name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48; cmsghdr: len 0, level 8, type 12, data 16
 */
class DescriptorMessage {
  readonly header = Buffer.alloc(56);
  private readonly data = Buffer.alloc(1);
  private readonly vector = Buffer.alloc(16);
  private readonly control = Buffer.alloc(24);

  constructor() {
    this.vector.writeBigUInt64LE(BigInt(addressOf(this.data)), 0);
    this.vector.writeBigUInt64LE(1n, 8);
    this.header.writeBigUInt64LE(BigInt(addressOf(this.vector)), 16);
    this.header.writeBigUInt64LE(1n, 24);
    this.header.writeBigUInt64LE(BigInt(addressOf(this.control)), 32);
    this.header.writeBigUInt64LE(24n, 40);
  }

  descriptor(): number | undefined {
    const isRights =
      this.control.readInt32LE(8) === SOL_SOCKET && this.control.readInt32LE(12) === SCM_RIGHTS;
    if (this.header.readBigUInt64LE(40) < 20n || !isRights) return undefined;
    return this.control.readInt32LE(16);
  }
}

/** Closes a descriptor made here; an error is only possible for one that is not open. */
export function closeDescriptor(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    throw new BlockError('EBADF', `Cannot close descriptor ${fd}: it is not open`, {}, error);
  }
}
