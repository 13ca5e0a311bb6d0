/**
 * Sets of descriptors that were handed to this process, for it to open as `/dev/fdset/N` what it has no right to open by
 * name. A set may hold the same file opened in several ways.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { BlockError } from '../block/errors.ts';
import { lastErrno, libc, systemError } from './libc.ts';

const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;
const F_SETFD = 2;
const ACCESS = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR;
const NAME = /^\/dev\/fdset\/(\d+)$/;

const fcntl = libc.func('int fcntl(int fd, int command, ...)') as (
  fd: number,
  command: number,
  ...values: unknown[]
) => number;

export interface HeldDescriptor {
  readonly fd: number;
  readonly opaque: string | undefined;
}

const sets = new Map<number, HeldDescriptor[]>();
const named = new Map<string, number>();

/** The number in `/dev/fdset/N`; undefined for another name. */
export function fdSetOf(path: string): number | undefined {
  const digits = NAME.exec(path)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export function fdSets(): readonly { readonly id: number; readonly fds: readonly HeldDescriptor[] }[] {
  return [...sets].map(([id, fds]) => ({ id, fds }));
}

/** The descriptor belongs to the set from now on. Without a number the set is a new one. */
export function addToFdSet(fd: number, set: number | undefined, opaque: string | undefined): number {
  if (!isDescriptor(fd)) throw new BlockError('EBADF', `Cannot add descriptor ${fd}: it is not open`);
  const id = set ?? freeNumber();
  sets.set(id, [...(sets.get(id) ?? []), { fd, opaque }]);
  return id;
}

function freeNumber(): number {
  let id = 0;
  while (sets.has(id)) id += 1;
  return id;
}

/** Closes one descriptor of a set, or all; what was opened from them stays open. False: there is none. */
export function removeFromFdSet(set: number, fd: number | undefined): boolean {
  const held = sets.get(set) ?? [];
  const going = held.filter((each) => fd === undefined || each.fd === fd);
  const staying = held.filter((each) => !going.includes(each));
  for (const each of going) closeSync(each.fd);
  if (staying.length === 0) sets.delete(set);
  else sets.set(set, staying);
  return going.length > 0;
}

/** Keeps a descriptor under a name; one of that name is closed. */
export function nameDescriptor(name: string, fd: number): void {
  closeNamedDescriptor(name);
  named.set(name, fd);
}

export function closeNamedDescriptor(name: string): boolean {
  const fd = named.get(name);
  if (fd !== undefined) closeSync(fd);
  return named.delete(name);
}

/** Takes a named descriptor out; the caller owns it. */
export function takeNamedDescriptor(name: string): number | undefined {
  const fd = named.get(name);
  named.delete(name);
  return fd;
}

/** Any descriptor of a set, to look at. */
export function firstOfFdSet(set: number): number | undefined {
  return sets.get(set)?.[0]?.fd;
}

/**
 * A descriptor of its own for what the set holds, opened for what is wanted. Where this process may open the file it gets a
 * file description of its own, else it shares the one it was given. The caller closes it.
 */
export function openFdSet(set: number, writable: boolean): number {
  const path = `/dev/fdset/${set}`;
  const held = sets.get(set) ?? [];
  if (held.length === 0)
    throw new BlockError('ENOENT', `Cannot open "${path}": there is no such set of descriptors`, { path });
  const wanted = writable ? [constants.O_RDWR] : [constants.O_RDONLY, constants.O_RDWR];
  for (const access of wanted) {
    const found = held.find(({ fd }) => accessOf(fd) === access);
    if (found !== undefined) return duplicateDescriptor(found.fd);
  }
  const text = `Cannot open "${path}": it holds no descriptor that is open for ${writable ? 'reading and writing' : 'reading'}`;
  throw new BlockError('EACCES', text, { path });
}

/** The same open file under another number, closed on exec. The caller closes it. */
export function duplicateDescriptor(fd: number): number {
  const copy = fcntl(fd, F_DUPFD_CLOEXEC, 'int', 3);
  if (copy < 0) throw systemError(`Cannot duplicate descriptor ${fd}`);
  return copy;
}

/** A program that this process becomes (exec) has the descriptor, too: Node marks all that it starts with to be closed. */
export function keepOnExec(fd: number): void {
  if (fcntl(fd, F_SETFD, 'int', 0) < 0) throw systemError(`Cannot keep descriptor ${fd}`);
}

/** Calls on it return at once instead of waiting, for whoever else has it open, too. */
export function makeNonBlocking(fd: number): void {
  const flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, 'int', flags | constants.O_NONBLOCK) < 0)
    throw systemError(`Cannot make descriptor ${fd} non-blocking`);
}

/** A further description of an open file where the system allows that, else the same one again. */
export function openOrDuplicate(fd: number, flags: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, flags);
  } catch {
    return duplicateDescriptor(fd);
  }
}

/** Whether a number is an open descriptor. */
export function isDescriptor(fd: number): boolean {
  return fcntl(fd, F_GETFL) >= 0 || lastErrno() !== EBADF;
}

const EBADF = 9;

function accessOf(fd: number): number {
  const flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -1 : flags & ACCESS;
}
