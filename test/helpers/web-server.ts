import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface WebFile {
  content: Buffer;
  etag: string;
}

export interface WebServer {
  readonly url: string;
  /** What was asked for: method, path and range. */
  readonly log: string[];
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on a loopback port that does what the test says. */
export async function webServer(t: ExecutionContext, handle: Handler): Promise<WebServer> {
  const log: string[] = [];
  const server = createServer((request, response) => {
    log.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`);
    handle(request, response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk`, log };
}

/** Answers as a good server does: ranges, ETag, and no HEAD. */
export function serveFile(file: WebFile, request: IncomingMessage, response: ServerResponse): void {
  const { content, etag } = file;
  if (request.method !== 'GET') {
    response.writeHead(405).end();
    return;
  }
  const [, first = '', last = ''] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  const from = Number(first);
  if (from >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}`, etag }).end();
    return;
  }
  const to = Math.min(Number(last), content.length - 1);
  const range = `bytes ${from}-${to}/${content.length}`;
  response.writeHead(206, { 'content-range': range, etag, 'content-length': to + 1 - from });
  response.end(content.subarray(from, to + 1));
}
