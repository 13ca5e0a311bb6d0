import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { errnoOf } from '../block/errors.ts';
import { ControlConnection } from './control-connection.ts';
import type { ConnectionListener } from './control-connection.ts';
import { makeNonBlocking } from './fdsets.ts';
import { ReadPoll } from './poll.ts';
import { closeDescriptor } from './sockets.ts';
import { acceptClient, connectTo, listenAt } from './unix-socket.ts';

/** Clients taken in one wake. */
const BATCH = 64;
/** Milliseconds without new clients when there is no room for one. */
const NO_ROOM = 100;

export type StartConversation = (connection: ControlConnection) => ConnectionListener;

export interface ControlListener {
  /** Resolves when the first client is there. */
  readonly firstClient: Promise<void>;
  /** Takes no new clients and hangs up on the present ones once what was sent to them is out. */
  close(): Promise<void>;
}

/** Listens at `path`, for the owner alone (0600), and starts a conversation with every client. */
export function listenControl(path: string, start: StartConversation): ControlListener {
  return listenOn(listenAt(path), start);
}

/** The same with a socket that listens already; it belongs to the listener. */
export function listenOn(listener: number, start: StartConversation): ControlListener {
  makeNonBlocking(listener);
  const connections = new Set<ControlConnection>();
  const { promise: firstClient, resolve: come } = Promise.withResolvers<void>();
  const take = (fd: number): void => {
    const connection = new ControlConnection(fd, (own) => {
      connections.add(own);
      const conversation = start(own);
      return {
        receive: (text, descriptors) => {
          conversation.receive(text, descriptors);
        },
        finished: () => conversation.finished(),
        closed: () => {
          connections.delete(own);
          conversation.closed();
        },
      };
    });
    if (connections.has(connection)) come();
  };
  const poll = new ReadPoll(listener, {
    readable: () => {
      takeClients(listener, poll, take);
    },
    failed: () => undefined,
  });
  let isOpen = true;
  return {
    firstClient,
    close: async () => {
      if (!isOpen) return;
      isOpen = false;
      poll.close();
      closeDescriptor(listener);
      for (const connection of connections) connection.close();
      // One turn, in which the last words go out.
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

/** A conversation over a connection that this side makes. */
export function connectConversation(path: string, start: StartConversation): ControlConnection {
  return new ControlConnection(connectTo(path), start);
}

function takeClients(listener: number, poll: ReadPoll, take: (fd: number) => void): void {
  try {
    for (let count = 0; count < BATCH; count += 1) {
      const fd = acceptClient(listener);
      if (fd === undefined) return;
      take(fd);
    }
  } catch (error) {
    if (!['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS'].includes(errnoOf(error))) throw error;
    // Clients wait in the kernel until others have gone.
    poll.pause();
    setTimeout(() => {
      poll.resume();
    }, NO_ROOM).unref();
  }
}

/** A client's end: lines in order, and what ends them. */
export interface ControlClientConnection {
  send(text: string): void;
  /** The next line without its end; undefined when the server hung up. */
  line(): Promise<string | undefined>;
  close(): void;
}

/** Rejects with the system's error (ENOENT, ECONNREFUSED) when nobody listens at `path`. */
export async function connectControl(path: string): Promise<ControlClientConnection> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.setEncoding('utf8');
  socket.on('error', () => undefined);
  const lines = splitLines(socket);
  return {
    send: (text) => {
      socket.write(text);
    },
    line: async () => {
      const next = await lines.next();
      return next.done === true ? undefined : next.value;
    },
    close: () => {
      socket.destroy();
    },
  };
}

async function* splitLines(socket: Socket): AsyncGenerator<string, void> {
  let rest = '';
  try {
    for await (const chunk of socket) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) yield part.trimEnd();
    }
  } catch {
    // A connection that breaks has ended: whoever waits for a line learns that from `undefined`.
  }
}
