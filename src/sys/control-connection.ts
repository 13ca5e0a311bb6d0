import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { duplicateDescriptor } from './fdsets.ts';
import { MessageReader } from './message-reader.ts';
import { ReadPoll } from './poll.ts';
import { closeDescriptor } from './sockets.ts';

/** Reads of one wake: then others get their turn. */
const BATCH = 4;
/** Milliseconds in which a client that was refused may notice. */
const LINGER = 1000;
/** Bytes that wait to be sent: a client that reads nothing is given up, its memory is ours. */
const MAX_BACKLOG = 16 * 2 ** 20;

export interface ConnectionListener {
  /** Throws when what came can't be a request: the connection is closed then. The descriptors belong to the listener. */
  receive(text: string, descriptors: readonly number[]): void;
  /** Resolves when all that came is answered: a client may have said its last and still listen. */
  finished(): Promise<void>;
  /** Called once, whoever ended it. */
  closed(): void;
}

let reader: MessageReader | undefined;

/**
 * A connected unix socket. Read by system calls, as descriptors may come along; written through node:net on a second
 * descriptor of the same socket, which waits for room by itself.
 */
export class ControlConnection {
  private readonly fd: number;
  private readonly writer: Socket;
  private readonly poll: ReadPoll;
  private readonly decoder = new StringDecoder('utf8');
  private readonly listener: ConnectionListener;
  private isOpen = true;
  /** What still comes is dropped. */
  private isRefused = false;

  /** The descriptor belongs to the connection. */
  constructor(fd: number, start: (connection: ControlConnection) => ConnectionListener) {
    this.fd = fd;
    this.writer = new Socket({ fd: copyOf(fd), readable: false, writable: true });
    // A client that went away: reading tells.
    this.writer.on('error', () => undefined);
    this.poll = new ReadPoll(fd, {
      readable: () => {
        this.readSome();
      },
      failed: () => {
        this.close();
      },
    });
    this.listener = start(this);
  }

  send(text: string): void {
    if (!this.writer.writable) return;
    this.writer.write(text);
    if (this.writer.writableLength > MAX_BACKLOG) this.destroy();
  }

  /** Whether more is read. */
  accept(more: boolean): void {
    if (!this.isOpen) return;
    if (more) this.poll.resume();
    else this.poll.pause();
  }

  /** Reads no more; what was sent goes out before the socket closes. */
  close(): void {
    this.stopReading();
    this.writer.destroySoon();
  }

  /** Says no more, and reads what comes without looking at it, so that the client gets the last words before the end. */
  private refuse(): void {
    this.isRefused = true;
    this.writer.end();
    setTimeout(() => {
      this.close();
    }, LINGER).unref();
  }

  private destroy(): void {
    this.stopReading();
    this.writer.destroy();
  }

  /** The client says no more (`printf ... | socat - UNIX:path`): it gets its answers before the end. */
  private lastWords(): void {
    this.release();
    void this.listener.finished().finally(() => {
      this.listener.closed();
      this.writer.destroySoon();
    });
  }

  private stopReading(): void {
    if (!this.isOpen) return;
    this.release();
    this.listener.closed();
  }

  private release(): void {
    this.isOpen = false;
    this.poll.close();
    closeDescriptor(this.fd);
  }

  private readSome(): void {
    for (let count = 0; count < BATCH && this.isOpen; count += 1) {
      reader ??= new MessageReader();
      const message = reader.read(this.fd);
      if (message === 'empty') return;
      if (message === 'end') return this.lastWords();
      if (this.isRefused) {
        for (const fd of message.descriptors) closeDescriptor(fd);
        continue;
      }
      try {
        this.listener.receive(this.decoder.write(message.bytes), message.descriptors);
      } catch {
        this.refuse();
      }
    }
  }
}

function copyOf(fd: number): number {
  try {
    return duplicateDescriptor(fd);
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}
