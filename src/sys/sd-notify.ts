/** Messages to a service manager, as sd_notify(3) has them: datagrams to the socket that $NOTIFY_SOCKET names. */
import { BlockError } from '../block/errors.ts';
import { libc, systemError } from './libc.ts';
import { closeDescriptor } from './sockets.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
/** Room for the name in struct sockaddr_un. */
const MAX_NAME = 108;

const socketCall = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
const sendtoCall = libc.func(
  'int64_t sendto(int fd, const void *bytes, size_t length, int flags, const void *address, uint32_t size)',
) as (fd: number, bytes: Buffer, length: number, flags: number, address: Buffer, size: number) => number;

/** Sends lines of `NAME=value`. Throws when nobody listens there. */
export function sendNotification(socketName: string, lines: readonly string[]): void {
  const address = socketAddress(socketName);
  const fd = socketCall(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError('Cannot make a datagram socket');
  try {
    const bytes = Buffer.from(lines.join('\n'));
    if (sendtoCall(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length) < 0)
      throw systemError(`Cannot notify "${socketName}"`);
  } finally {
    closeDescriptor(fd);
  }
}

/** struct sockaddr_un: family, then a path and a zero, or for `@name` a zero and the name. */
export function socketAddress(name: string): Buffer {
  const isAbstract = name.startsWith('@');
  const bytes = Buffer.from(isAbstract ? `\0${name.slice(1)}` : `${name}\0`);
  if ((!isAbstract && !name.startsWith('/')) || bytes.length > MAX_NAME) {
    throw new BlockError(
      'EINVAL',
      `Cannot use socket "${name}": wanted is a path of ${MAX_NAME - 1} bytes, or @name`,
    );
  }
  const address = Buffer.alloc(2 + bytes.length);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}
