/** Unix sockets made, bound and accepted by system calls: node:net can't receive descriptors. */
import { lstatSync, rmSync } from 'node:fs';
import { BlockError } from '../block/errors.ts';
import { errnoNumber, lastErrno, libc, systemError } from './libc.ts';
import { closeDescriptor } from './sockets.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const BACKLOG = 1024;
const PATH_ROOM = 108;
const FAMILY_SIZE = 2;
const EAGAIN = errnoNumber('EAGAIN');

const socketCall = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)') as AddressCall;
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)') as AddressCall;
const listenCall = libc.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number;
const acceptCall = libc.func('int accept4(int fd, void *address, void *length, int flags)') as (
  fd: number,
  address: null,
  length: null,
  flags: number,
) => number;

type AddressCall = (fd: number, address: Buffer, length: number) => number;

/** A listening socket at `path`, for its owner alone (0600). A socket that was left there is replaced. */
export function listenAt(path: string): number {
  const fd = newSocket(path);
  const address = addressOfPath(path);
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path, { force: true });
  const umask = process.umask(0o177);
  const failed = bindCall(fd, address, address.length) < 0 || listenCall(fd, BACKLOG) < 0;
  const error = failed ? systemError(`Cannot listen at "${path}"`) : undefined;
  process.umask(umask);
  if (error === undefined) return fd;
  closeDescriptor(fd);
  throw error;
}

/** A stream socket connected to `path`. */
export function connectTo(path: string): number {
  const fd = newSocket(path);
  const address = addressOfPath(path);
  if (connectCall(fd, address, address.length) >= 0) return fd;
  const error = systemError(`Cannot connect to "${path}"`);
  closeDescriptor(fd);
  throw error;
}

/** The next client of a listening socket; undefined when there is none now. Throws EMFILE when there is no room. */
export function acceptClient(listener: number): number | undefined {
  const fd = acceptCall(listener, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) return fd;
  const number = lastErrno();
  if (number === EAGAIN || number === errnoNumber('EINTR') || number === errnoNumber('ECONNRESET'))
    return undefined;
  throw systemError('Cannot accept a client', number);
}

function newSocket(path: string): number {
  const fd = socketCall(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError(`Cannot make a socket for "${path}"`);
  return fd;
}

/** struct sockaddr_un: family in two bytes, then the path with a NUL. */
function addressOfPath(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length >= PATH_ROOM) {
    const text = `Cannot use socket "${path}": its name has ${bytes.length} bytes, at most ${PATH_ROOM - 1} fit`;
    throw new BlockError('EINVAL', text, { path });
  }
  const address = Buffer.alloc(FAMILY_SIZE + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, FAMILY_SIZE);
  return address;
}
