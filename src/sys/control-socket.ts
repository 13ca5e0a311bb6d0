import { chmodSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import type { Server, Socket } from 'node:net';

/** What the listener asks of whoever answers a connection. */
export interface Conversation {
  /** Throws when what came can't be a request: the connection is closed then. */
  receive(text: string): void;
  closed(): void;
}

export interface ControlListener {
  /** Takes no new clients and hangs up on the present ones once what was sent to them is out. */
  close(): Promise<void>;
}

/** Listens at `path`, for the owner alone (0600), and starts a conversation with every client. */
export async function listenControl(
  path: string,
  start: (send: (text: string) => void) => Conversation,
): Promise<ControlListener> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    converse(socket, start);
  });
  // No client can be faster than the chmod below: the folder of the socket is 0700, and the umask closes the rest.
  const umask = process.umask(0o177);
  try {
    await listening(server, path);
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
  return { close: () => closeListener(server, sockets) };
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
}

function closeListener(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
    for (const socket of sockets) socket.destroySoon();
  });
}

function converse(socket: Socket, start: (send: (text: string) => void) => Conversation): void {
  const conversation = start((text) => {
    if (socket.writable) socket.write(text);
  });
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    try {
      conversation.receive(text);
    } catch {
      socket.destroy();
    }
  });
  // A client that went away is no event of its own: 'close' follows.
  socket.on('error', () => undefined);
  socket.on('close', () => {
    conversation.closed();
  });
}

/** A client's end: lines in order, and what ends them. */
export interface ControlConnection {
  send(text: string): void;
  /** The next line without its end; undefined when the server hung up. */
  line(): Promise<string | undefined>;
  close(): void;
}

/** Rejects with the system's error (ENOENT, ECONNREFUSED) when nobody listens at `path`. */
export async function connectControl(path: string): Promise<ControlConnection> {
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
