/** Client connections over unix and TCP sockets, read in exact pieces. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { BlockError, errnoOf } from '../block/errors.ts';

export type StreamAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Bytes that wait to be asked for; beyond that the other side has to wait. */
const BUFFERED_MAX = 1024 * 1024;

export const showAddress = (address: StreamAddress): string =>
  'path' in address ? address.path : `${address.host}:${address.port}`;

interface Wanted {
  readonly target: Buffer;
  filled: number;
  resolve(): void;
  reject(error: Error): void;
}

export class StreamSocket {
  /** The last time that something came, by the clock of `performance`. */
  lastHeard = performance.now();
  private readonly socket: Socket;
  private readonly chunks: Buffer[] = [];
  private buffered = 0;
  private wanted: Wanted | undefined = undefined;
  private failure: BlockError | undefined = undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.lastHeard = performance.now();
      this.chunks.push(chunk);
      this.buffered += chunk.length;
      this.serve();
      if (this.buffered > BUFFERED_MAX) socket.pause();
    });
    socket.on('error', (error) => {
      this.fail(new BlockError(errnoOf(error), error.message, {}, error));
    });
    socket.on('close', () => {
      this.fail(new BlockError('ECONNRESET', 'the connection was closed'));
    });
    socket.on('end', () => {
      this.fail(new BlockError('ECONNRESET', 'the other side closed the connection'));
    });
  }

  /** Fills `target`; one read at a time. Rejects when the connection ends before. */
  read(target: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.wanted = { target, filled: 0, resolve, reject };
      this.serve();
      if (this.failure !== undefined) this.rejectWanted(this.failure);
    });
  }

  /** Sends bytes one behind the other. They must stay as they are until the other side has answered. */
  write(head: Buffer, body?: Buffer): void {
    if (this.failure !== undefined) return;
    this.socket.cork();
    this.socket.write(head);
    if (body !== undefined && body.length > 0) this.socket.write(body);
    this.socket.uncork();
  }

  /** Ends the connection at once; whoever reads is told `why`. */
  destroy(why: BlockError): void {
    this.fail(why);
  }

  /** Sends what was written, then ends. */
  end(last: Buffer): void {
    this.fail(new BlockError('ESHUTDOWN', 'the connection was closed here'), last);
  }

  private serve(): void {
    const { wanted, chunks } = this;
    if (wanted === undefined) return;
    while (wanted.filled < wanted.target.length) {
      const [chunk] = chunks;
      if (chunk === undefined) {
        this.socket.resume();
        return;
      }
      const taken = chunk.copy(wanted.target, wanted.filled);
      wanted.filled += taken;
      this.buffered -= taken;
      if (taken === chunk.length) chunks.shift();
      else chunks[0] = chunk.subarray(taken);
    }
    this.wanted = undefined;
    if (this.buffered <= BUFFERED_MAX) this.socket.resume();
    wanted.resolve();
  }

  private fail(error: BlockError, last?: Buffer): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    if (last === undefined) this.socket.destroy();
    else this.socket.end(last, () => this.socket.destroy());
    this.rejectWanted(error);
  }

  private rejectWanted(error: BlockError): void {
    const { wanted } = this;
    this.wanted = undefined;
    wanted?.reject(error);
  }
}

/** Rejects with the system's reason, or when it takes longer than `timeout` milliseconds. */
export function connectStream(address: StreamAddress, timeout: number): Promise<StreamSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect('path' in address ? { path: address.path } : { ...address, noDelay: true });
    const timer = setTimeout(() => {
      socket.destroy(new BlockError('ETIMEDOUT', `no answer within ${timeout / 1000} s`));
    }, timeout);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(error instanceof BlockError ? error : new BlockError(errnoOf(error), reason(error), {}, error));
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(new StreamSocket(socket));
    });
  });
}

/** Node tries all addresses of a name and puts the reasons together. */
function reason(error: Error): string {
  const errors = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  const [first] = errors;
  return first instanceof Error ? first.message : error.message;
}
