/** One HTTP request after the other over connections that are kept; no redirects, no retries, no cache. */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { BlockError, errnoOf } from '../block/errors.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** There was more than was wanted; the rest was not read. */
  readonly isCut: boolean;
}

export interface HttpClientSetup {
  readonly sslVerify: boolean;
  /** Milliseconds that the server may take until it says something, at the start and within an answer. */
  readonly timeout: number;
}

const CONNECTIONS = 8;
/** A whole answer may take so many times the timeout: a server that drips is given up. */
const WHOLE = 20;

export class HttpClient {
  private readonly setup: HttpClientSetup;
  private readonly plain = new HttpAgent({ keepAlive: true, maxSockets: CONNECTIONS });
  private readonly secure: HttpsAgent;

  constructor(setup: HttpClientSetup) {
    this.setup = setup;
    this.secure = new HttpsAgent({
      keepAlive: true,
      maxSockets: CONNECTIONS,
      rejectUnauthorized: setup.sslVerify,
    });
  }

  /** @param max bytes of the body that are of use. Rejects with a BlockError when there is no whole answer. */
  get(url: URL, headers: Readonly<Record<string, string>>, max: number): Promise<HttpAnswer> {
    const { timeout } = this.setup;
    return new Promise((resolve, reject) => {
      const isSecure = url.protocol === 'https:';
      const options = { method: 'GET', headers, timeout, agent: isSecure ? this.secure : this.plain };
      const request = isSecure ? httpsRequest(url, options) : httpRequest(url, options);
      const late = (): void => {
        request.destroy(new BlockError('ETIMEDOUT', `no answer within ${timeout / 1000} s`));
      };
      const whole = setTimeout(late, timeout * WHOLE);
      request.on('timeout', late);
      request.on('error', (error) => {
        clearTimeout(whole);
        reject(new BlockError(errnoOf(error), error.message, {}, error));
      });
      request.on('response', (response) => {
        collect(response, max)
          .then(({ body, isCut }) => {
            if (isCut) request.destroy();
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body, isCut });
          }, reject)
          .finally(() => {
            clearTimeout(whole);
          });
      });
      request.end();
    });
  }

  close(): void {
    this.plain.destroy();
    this.secure.destroy();
  }
}

function collect(response: IncomingMessage, max: number): Promise<{ body: Buffer; isCut: boolean }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > max) resolve({ body: Buffer.concat(chunks, max), isCut: true });
    });
    response.on('end', () => {
      if (response.complete) resolve({ body: Buffer.concat(chunks, length), isCut: false });
      else reject(new BlockError('ECONNRESET', 'the answer ended too early'));
    });
    response.on('error', (error) => {
      reject(new BlockError(errnoOf(error), error.message, {}, error));
    });
    response.on('close', () => {
      reject(new BlockError('ECONNRESET', 'the answer ended too early'));
    });
  });
}
