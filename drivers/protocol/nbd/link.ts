/** The connection of a disk: made, and made again when it is lost, within the time that the options allow. */
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import { connectStream, showAddress } from '../../../src/sys/stream-socket.ts';
import type { StreamAddress } from '../../../src/sys/stream-socket.ts';
import { Connection, ConnectionLost } from './connection.ts';
import { shakeHands } from './handshake.ts';
import type { ExportFacts, HandshakeRequest } from './handshake.ts';
import { ExportFlag } from './wire.ts';

const CONNECT_TIMEOUT = 30_000;
const FIRST_PAUSE = 100;
const LAST_PAUSE = 5000;
/** A request on which the server hangs up so often has failed. */
const LOSSES_MAX = 5;

export interface LinkSetup {
  readonly address: StreamAddress;
  readonly request: HandshakeRequest;
  /** How messages call it. */
  readonly uri: string;
  /** Milliseconds to go on trying, at the start and after a loss. */
  readonly openTimeout: number;
  readonly reconnectDelay: number;
  /** A connection was lost with requests on it, or writes that no flush covered. */
  lost(): void;
}

export class Link {
  readonly facts: ExportFacts;
  private readonly setup: LinkSetup;
  private connection: Connection;
  private connecting: Promise<Connection> | undefined = undefined;
  private closed = false;
  private readonly stop = new AbortController();

  private constructor(setup: LinkSetup, connection: Connection) {
    this.setup = setup;
    this.connection = connection;
    this.facts = connection.facts;
  }

  static async open(setup: LinkSetup): Promise<Link> {
    const connection = await persist(setup, setup.openTimeout).catch((error: unknown) => {
      throw new BlockError(errnoOf(error), `Cannot open NBD export "${setup.uri}": ${messageOf(error)}`);
    });
    return new Link(setup, connection);
  }

  /** Does a request, again on another connection if the one is lost. It must be one that may be done twice. */
  async run(what: string, request: (connection: Connection) => Promise<void>): Promise<void> {
    try {
      for (let losses = 1; ; losses += 1) {
        try {
          return await request(await this.connected());
        } catch (error) {
          const again = losses < LOSSES_MAX && this.setup.reconnectDelay > 0 && !this.closed;
          if (!(error instanceof ConnectionLost) || !again) throw error;
        }
      }
    } catch (error) {
      const code = error instanceof ConnectionLost ? 'EIO' : errnoOf(error);
      throw new BlockError(
        code,
        `Cannot ${what} NBD export "${this.setup.uri}": ${messageOf(error)}`,
        {},
        error,
      );
    }
  }

  close(): void {
    this.closed = true;
    this.stop.abort();
    if (!this.connection.isLost) this.connection.close();
  }

  private connected(): Promise<Connection> {
    if (!this.connection.isLost) return Promise.resolve(this.connection);
    if (this.closed) return Promise.reject(new BlockError('ESHUTDOWN', 'it is closed'));
    this.connecting ??= this.reconnect().finally(() => {
      this.connecting = undefined;
    });
    return this.connecting;
  }

  private async reconnect(): Promise<Connection> {
    this.setup.lost();
    const trying = persist(this.setup, this.setup.reconnectDelay, this.stop.signal);
    const connection = await trying.catch((error: unknown) => {
      throw new BlockError('EIO', `the connection was lost, and ${messageOf(error)}`, {}, error);
    });
    const changed = differences(this.facts, connection.facts);
    if (changed !== undefined || this.closed) {
      connection.close();
      throw new BlockError('ESTALE', changed ?? 'it is closed');
    }
    this.connection = connection;
    return connection;
  }
}

/** What is another export now than it was, in words. */
function differences(before: ExportFacts, now: ExportFacts): string | undefined {
  if (before.size !== now.size)
    return `it has ${now.size} bytes after the connection was lost, had ${before.size}`;
  const lacking = before.flags & ~now.flags & ~ExportFlag.readOnly;
  if (lacking !== 0) return `the server can no longer do what it could (flags 0x${lacking.toString(16)})`;
  if ((now.flags & ExportFlag.readOnly) > (before.flags & ExportFlag.readOnly)) return 'it is read-only now';
  if (now.minBlock > Math.max(1, before.minBlock))
    return `its smallest block is ${now.minBlock} bytes now, was ${before.minBlock}`;
  return before.contextId !== undefined && now.contextId === undefined
    ? 'it no longer has its context'
    : undefined;
}

/** Tries until it works, or `patience` milliseconds are over; a server that refuses the export is not asked again. */
async function persist(setup: LinkSetup, patience: number, signal?: AbortSignal): Promise<Connection> {
  const end = performance.now() + patience;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LAST_PAUSE, pause * 2)) {
    try {
      return await connectOnce(setup);
    } catch (error) {
      const left = end - performance.now();
      if (left <= 0 || signal?.aborted === true) throw error;
      await sleep(Math.min(pause, left), undefined, { signal });
    }
  }
}

async function connectOnce({ address, request }: LinkSetup): Promise<Connection> {
  const socket = await connectStream(address, CONNECT_TIMEOUT).catch((error: unknown) => {
    const text = `cannot connect to ${showAddress(address)}: ${messageOf(error)}`;
    throw new BlockError(errnoOf(error), text, {}, error);
  });
  const timer = setTimeout(() => {
    socket.destroy(new BlockError('ETIMEDOUT', `no answer within ${CONNECT_TIMEOUT / 1000} s`));
  }, CONNECT_TIMEOUT);
  try {
    return new Connection(socket, await shakeHands(socket, request));
  } catch (error) {
    socket.destroy(new BlockError('ECANCELED', 'the handshake failed'));
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
