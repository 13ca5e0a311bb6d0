/** Text that whoever asks gets over HTTP. Read-only, and bounded: a client that is slow, silent or greedy is dropped. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { rmSync } from 'node:fs';
import type { ListenOptions } from 'node:net';
import { BlockError } from '../block/errors.ts';
import type { EndpointAddress } from './endpoint-address.ts';
import { fileError } from './file-error.ts';
import { listenAt } from './unix-socket.ts';

const MAX_CLIENTS = 32;
/** ms that a client has for its request, and for taking the answer. */
const PATIENCE_MS = 10_000;
const MAX_HEADER = 8192;

export interface TextEndpoint {
  /** As a client writes it: `http://127.0.0.1:9100/metrics`, `unix:/run/x.sock`. */
  readonly address: string;
  close(): Promise<void>;
}

/** Answers GET of `path` with what `text` makes then. A socket in the file system is its owner's alone. */
export async function serveText(
  address: EndpointAddress,
  content: { readonly path: string; readonly type: string; text(): string },
): Promise<TextEndpoint> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER,
      headersTimeout: PATIENCE_MS,
      requestTimeout: PATIENCE_MS,
      connectionsCheckingInterval: PATIENCE_MS / 2,
      keepAliveTimeout: PATIENCE_MS / 2,
    },
    (request, response) => {
      answer(request, response, content);
    },
  );
  server.maxConnections = MAX_CLIENTS;
  server.setTimeout(PATIENCE_MS, (socket) => socket.destroy());
  server.on('clientError', (_error, socket) => socket.destroy());
  await listen(server, address);
  server.on('error', () => undefined);
  return {
    address: addressOf(server, address, content.path),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      if (address.kind === 'unix') rmSync(address.path, { force: true });
    },
  };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  content: { readonly path: string; readonly type: string; text(): string },
): void {
  // A client that sends a body is not waited for.
  request.on('error', () => undefined);
  response.on('error', () => undefined);
  const isKnown = (request.url ?? '').split('?')[0] === content.path;
  const isRead = request.method === 'GET' || request.method === 'HEAD';
  const status = isKnown ? (isRead ? 200 : 405) : 404;
  const body =
    status === 200 ? content.text() : `${status === 404 ? `not here: ${content.path}` : 'GET only'}\n`;
  const type = status === 200 ? content.type : 'text/plain; charset=utf-8';
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'X-Content-Type-Options': 'nosniff',
    ...(status === 405 ? { Allow: 'GET, HEAD' } : {}),
    ...(isRead ? {} : { Connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

async function listen(server: Server, address: EndpointAddress): Promise<void> {
  const options: ListenOptions & { fd?: number } =
    address.kind === 'unix' ? { fd: listenAt(address.path) } : { host: address.host, port: address.port };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options, resolve);
    });
  } catch (error) {
    throw fileError(
      `Cannot listen at "${address.kind === 'unix' ? address.path : hostAndPort(address)}"`,
      error,
    );
  }
  server.removeAllListeners('error');
}

const hostAndPort = ({ host, port }: { readonly host: string; readonly port: number }): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;

function addressOf(server: Server, address: EndpointAddress, path: string): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const bound = server.address();
  if (bound === null || typeof bound === 'string')
    throw new BlockError('EIO', 'Cannot tell where it listens');
  return `http://${hostAndPort({ host: bound.address, port: bound.port })}${path}`;
}
