/**
 * Readiness of a descriptor in Node's own event loop (uv_poll through koffi).
 *
 * What has to be done right here, because the library does not: a descriptor that can't be polled aborts the process
 * (so it is looked at first); an exception that leaves a callback kills every later one; a handle must be closed before
 * its descriptor and not be touched afterwards; some versions of Node run no promise callbacks after such an event.
 */
import { fstatSync } from 'node:fs';
import koffi from 'koffi';
import { BlockError } from '../block/errors.ts';

interface PollHandle {
  start(options: { readable: boolean }, callback: PollCallback): void;
  stop(): void;
  close(): void;
}
type PollCallback = (status: number) => void;
type Poll = (fd: number, options: { readable: boolean }, callback: PollCallback) => PollHandle;

/** koffi's own declaration of the callback is wrong: it gets a status first. */
const startPoll = koffi.node.poll as unknown as Poll;

export interface PollListener {
  /** The descriptor can be read; called again as long as it can. */
  readable(): void;
  /** The descriptor is in an error state, or `readable` threw; the poll is closed already. */
  failed(error: unknown): void;
}

/** Tells `listener` when `fd` can be read, until closed. Pausing costs one system call. */
export class ReadPoll {
  private readonly listener: PollListener;
  private handle: PollHandle | undefined;
  private active = true;
  private readonly callback: PollCallback;

  constructor(fd: number, listener: PollListener) {
    const stat = fstatSync(fd);
    if (stat.isFile() || stat.isDirectory()) {
      throw new BlockError(
        'EPERM',
        `Cannot poll descriptor ${fd}: it is a file, a device or socket is wanted`,
      );
    }
    this.listener = listener;
    this.callback = (status) => {
      this.event(status);
    };
    this.handle = startPoll(fd, { readable: true }, this.callback);
  }

  pause(): void {
    if (!this.active || this.handle === undefined) return;
    this.active = false;
    this.handle.stop();
  }

  resume(): void {
    if (this.active || this.handle === undefined) return;
    this.active = true;
    this.handle.start({ readable: true }, this.callback);
  }

  /** Close before the descriptor. */
  close(): void {
    const handle = this.handle;
    this.handle = undefined;
    handle?.close();
  }

  private event(status: number): void {
    if (this.handle === undefined) return;
    try {
      if (status < 0) this.fail(new BlockError('EIO', `Cannot poll: event loop status is ${status}`));
      else this.listener.readable();
    } catch (error) {
      this.fail(error);
    }
    runPromiseCallbacks();
  }

  private fail(error: unknown): void {
    this.close();
    try {
      this.listener.failed(error);
    } catch (second) {
      setImmediate(() => {
        throw second;
      });
    }
  }
}

/** Node 26 leaves them until the next event of another kind; older ones have run them by then. */
function runPromiseCallbacks(): void {
  if (NEEDS_PUSH) setImmediate(nothing);
}

const NEEDS_PUSH = Number(process.versions.node.split('.')[0]) >= 25;
const nothing = (): void => undefined;
