/**
 * A file on a web server, by ranges. Every answer must be the range asked for, of the file as it was when it was opened:
 * its size, ETag and date are compared each time. What may pass is tried again, a little later each time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import type { ErrnoCode } from '../../../src/block/errors.ts';
import { HttpClient } from '../../../src/sys/http-client.ts';
import type { HttpAnswer } from '../../../src/sys/http-client.ts';
import { originsDiffer, redirected } from './redirect.ts';

/** A server without ranges may give the whole file, up to so many bytes. */
export const WHOLE_MAX = 32 * 1024 * 1024;
const TRIES = 5;
const FIRST_PAUSE = 200;
const PAUSE_MAX = 10_000;
const REDIRECTS_MAX = 10;
/** Of an answer that is an error: enough to let the connection be used again. */
const ERROR_BODY_MAX = 64 * 1024;

export interface RemoteSetup {
  readonly url: URL;
  /** How messages call it: without user and password. */
  readonly name: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly sslVerify: boolean;
  readonly timeout: number;
}

/** What stays the same as long as the file does. */
interface Version {
  readonly size: number;
  readonly etag: string | undefined;
  readonly modified: string | undefined;
}

export class RemoteFile {
  size = 0;
  /** The file, where the server gives it only as a whole. */
  whole: Buffer | undefined = undefined;
  private readonly setup: RemoteSetup;
  private readonly client: HttpClient;
  private version: Version | undefined = undefined;
  private changed: BlockError | undefined = undefined;
  /** Where the last redirect led to. */
  private target: URL;
  private readonly stop = new AbortController();

  constructor(setup: RemoteSetup) {
    this.setup = setup;
    this.target = setup.url;
    this.client = new HttpClient(setup);
  }

  /** Learns the size; returns the first bytes, up to `length`. */
  async open(length: number): Promise<Buffer> {
    return this.persist('open', async () => {
      const answer = await this.ask(0, length, WHOLE_MAX);
      if (answer.status === 416) return this.openEmpty(answer);
      if (answer.status === 200) return this.openWhole(answer);
      const range = contentRange(answer);
      if (range.size === undefined)
        throw new BlockError('ENOTSUP', 'the server does not tell the size of the file');
      this.size = range.size;
      this.version = versionOf(answer, range.size);
      if (range.from !== 0 || answer.body.length !== Math.min(length, range.size))
        throw oddRange(answer, 0, length);
      return answer.body;
    });
  }

  /** Bytes of the file that lie inside it. */
  async read(offset: number, length: number): Promise<Buffer> {
    const { whole } = this;
    if (whole !== undefined) return whole.subarray(offset, offset + length);
    return this.persist('read from', async () => {
      if (this.changed !== undefined) throw this.changed;
      const answer = await this.ask(offset, length, length);
      this.compare(answer);
      const range = answer.status === 206 ? contentRange(answer) : undefined;
      if (range?.from !== offset || answer.body.length !== length || answer.isCut)
        throw oddRange(answer, offset, length);
      return answer.body;
    });
  }

  close(): void {
    this.stop.abort();
    this.client.close();
  }

  private openEmpty(answer: HttpAnswer): Buffer {
    if (contentRange(answer).size !== 0) throw oddRange(answer, 0, 1);
    this.whole = Buffer.alloc(0);
    return this.whole;
  }

  private openWhole({ body, isCut, headers }: HttpAnswer): Buffer {
    if (isCut || Number(headers['content-length'] ?? 0) > WHOLE_MAX) {
      const why = `the server knows no ranges, and the file is larger than the ${WHOLE_MAX} bytes that are read as a whole`;
      throw new BlockError('ENOTSUP', why);
    }
    this.whole = body;
    this.size = body.length;
    return body;
  }

  /** Once it is another file it stays that: bytes of both must not be mixed. */
  private compare(answer: HttpAnswer): void {
    const before = this.version;
    if (before === undefined || (answer.status !== 206 && answer.status !== 416)) return;
    const size = contentRange(answer).size ?? before.size;
    const now = versionOf(answer, size);
    const what =
      now.size !== before.size
        ? `it has ${now.size} bytes, had ${before.size}`
        : now.etag !== before.etag
          ? `its ETag is ${now.etag ?? 'missing'}, was ${before.etag ?? 'missing'}`
          : now.modified !== before.modified
            ? `it was modified ${now.modified ?? '(unknown)'}, before ${before.modified ?? '(unknown)'}`
            : undefined;
    if (what === undefined) return;
    this.changed = new BlockError('EIO', `the file has changed on the server since it was opened: ${what}`);
    throw this.changed;
  }

  private async persist<Result>(action: string, attempt: () => Promise<Result>): Promise<Result> {
    for (let tries = 1, pause = FIRST_PAUSE; ; tries += 1, pause *= 2) {
      try {
        return await attempt();
      } catch (error) {
        const wait = error instanceof Passing ? (error.pause ?? pause) : undefined;
        if (wait === undefined || tries >= TRIES || this.stop.signal.aborted) throw this.named(action, error);
        await sleep(Math.min(wait, PAUSE_MAX), undefined, { signal: this.stop.signal }).catch(() => {});
      }
    }
  }

  private named(action: string, error: unknown): BlockError {
    const why = error instanceof Error ? error.message : String(error);
    const after = error instanceof Passing ? ` (${TRIES} tries)` : '';
    const code = error instanceof Passing && action !== 'open' ? 'EIO' : errnoOf(error);
    return new BlockError(code, `Cannot ${action} "${this.setup.name}": ${why}${after}`, {}, error);
  }

  /** One range, redirects followed. What is no answer to that is thrown. */
  private async ask(offset: number, length: number, max: number): Promise<HttpAnswer> {
    const { setup } = this;
    const direct = this.target;
    let url = direct;
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
      const headers = originsDiffer(url, setup.url) ? {} : setup.headers;
      const answer = await this.get(
        url,
        { ...headers, range: `bytes=${offset}-${offset + length - 1}` },
        max,
      );
      const next = redirected(answer, url);
      if (next !== undefined) {
        url = next;
        continue;
      }
      if (answer.status === 206 || answer.status === 200 || answer.status === 416) {
        this.target = url;
        return answer;
      }
      // A redirect may lead somewhere else by now.
      this.target = setup.url;
      if (direct !== setup.url) throw new Passing(refusal(answer).message, 0);
      throw refusal(answer);
    }
    throw new BlockError('ELOOP', `over ${REDIRECTS_MAX} redirects`);
  }

  private async get(url: URL, headers: Record<string, string>, max: number): Promise<HttpAnswer> {
    const all = { 'accept-encoding': 'identity', 'user-agent': 'blockfuse', ...headers };
    try {
      return await this.client.get(url, all, Math.max(max, ERROR_BODY_MAX));
    } catch (error) {
      const code = errnoOf(error);
      // What is no error of the network (a certificate, an answer that is none of HTTP) stays as it is.
      if (code === 'EIO') throw error;
      throw new Passing(error instanceof Error ? error.message : String(error), undefined, code);
    }
  }
}

/** Something that may be better the next time. */
class Passing extends BlockError {
  /** Milliseconds that the server asks to be left alone. */
  readonly pause: number | undefined;

  constructor(message: string, pause: number | undefined, code: ErrnoCode = 'EIO') {
    super(code, message);
    this.pause = pause;
  }
}

const CODES: Readonly<Record<number, ErrnoCode>> = {
  401: 'EACCES',
  403: 'EACCES',
  404: 'ENOENT',
  410: 'ENOENT',
};

function refusal({ status, headers }: HttpAnswer): BlockError {
  const text = `the server answers with status ${status}`;
  if (status >= 500 || status === 429 || status === 408) {
    const seconds = Number(headers['retry-after'] ?? Number.NaN);
    return new Passing(text, Number.isFinite(seconds) ? seconds * 1000 : undefined);
  }
  return new BlockError(CODES[status] ?? 'EIO', text);
}

function oddRange({ status, headers, body }: HttpAnswer, offset: number, length: number): BlockError {
  const wanted = `bytes ${offset} to ${offset + length - 1} were asked for`;
  if (status === 200)
    return new BlockError('EIO', `the server ignores ranges now: ${wanted}, it sends the whole file`);
  const is = `status ${status}, ${headers['content-range'] ?? 'no Content-Range'}, ${body.length} bytes`;
  // A proxy that lost a part: the next time it may be whole.
  return new Passing(`${wanted}, the server sends ${is}`, undefined);
}

/** `bytes FROM-TO/SIZE`; SIZE may be `*`, and in an error FROM-TO as well. */
function contentRange({ headers }: HttpAnswer): { from: number | undefined; size: number | undefined } {
  const [, from, size = ''] =
    /^bytes\s+(?:(\d+)-\d+|\*)\/(\d+|\*)$/i.exec(headers['content-range'] ?? '') ?? [];
  const number = Number(size === '' || size === '*' ? Number.NaN : size);
  return {
    from: from === undefined ? undefined : Number(from),
    size: Number.isSafeInteger(number) ? number : undefined,
  };
}

const versionOf = ({ headers }: HttpAnswer, size: number): Version => ({
  size,
  etag: headers.etag,
  modified: headers['last-modified'],
});
