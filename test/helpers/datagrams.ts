import { closeSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { libc, systemError } from '../../src/sys/libc.ts';
import { ReadPoll } from '../../src/sys/poll.ts';
import { socketAddress } from '../../src/sys/sd-notify.ts';
import { HANG_MS } from './until.ts';

const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, const void *address, uint32_t size)');
const recvCall = libc.func('int64_t recv(int fd, void *bytes, size_t size, int flags)');

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT = 0x40;

/** What comes in on a datagram socket, as a service manager has it for sd_notify. */
export interface Datagrams {
  readonly received: readonly string[];
  /** The first one, also of those that have come already, that fits. */
  waitFor(pattern: RegExp): Promise<string>;
}

/** Listens on `name` (a path, or `@name`) for the rest of the test. */
export function listenForDatagrams(t: ExecutionContext, name: string): Datagrams {
  const fd: number = socketCall(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  const address = socketAddress(name);
  if (fd < 0 || bindCall(fd, address, address.length) < 0) throw systemError(`Cannot listen on "${name}"`);
  const received: string[] = [];
  const listeners = new Set<() => void>();
  const poll = new ReadPoll(fd, {
    readable: () => {
      const bytes = Buffer.alloc(4096);
      const length = Number(recvCall(fd, bytes, bytes.length, MSG_DONTWAIT));
      if (length >= 0) received.push(bytes.toString('utf8', 0, length));
      for (const listener of listeners) listener();
    },
    failed: () => undefined,
  });
  t.teardown(() => {
    poll.close();
    closeSync(fd);
  });
  const waitFor = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`no datagram like ${String(pattern)}: ${JSON.stringify(received)}`));
      }, HANG_MS);
      const look = (): void => {
        const found = received.find((text) => pattern.test(text));
        if (found === undefined) return;
        clearTimeout(timer);
        listeners.delete(look);
        resolve(found);
      };
      listeners.add(look);
      look();
    });
  return { received, waitFor };
}
