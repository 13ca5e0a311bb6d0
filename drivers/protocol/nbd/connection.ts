/**
 * An export in use: requests go out as they come, up to a bound, and are answered in any order. Data is read from the
 * socket into the caller's buffer. Whatever breaks the protocol ends the connection: nothing behind it can be trusted.
 */
import { BlockError, errnoOf } from '../../../src/block/errors.ts';
import type { StreamSocket } from '../../../src/sys/stream-socket.ts';
import type { ExportFacts } from './handshake.ts';
import { Chunk, CHUNK_DONE, CHUNK_ERROR, Command, errorCode, MAGIC, REQUEST_LENGTH } from './wire.ts';

const IN_FLIGHT_MAX = 32;
const TEXT_MAX = 4096;
/** A status answer of so many pieces is enough; what comes beyond that is not asked for again and again. */
const STATUS_MAX = 8 * 1024 * 1024;
/** Milliseconds without a byte from the server while it owes an answer. */
const SILENCE_MAX = 180_000;

/** The connection ended before the request was answered: it may be sent again on another one. */
export class ConnectionLost extends Error {}

export interface NbdRequest {
  readonly command: number;
  readonly flags?: number;
  readonly offset: number;
  readonly length: number;
  /** What a write sends. */
  readonly payload?: Buffer;
  /** Where a read goes. */
  readonly target?: Buffer;
  /** Takes the answer to a block status request: pairs of length and flags. */
  readonly status?: (pairs: Buffer) => void;
}

interface Pending extends NbdRequest {
  /** Bytes of the target that have come; they come once each. */
  covered: number;
  error: BlockError | undefined;
  resolve(): void;
  reject(error: Error): void;
}

export class Connection {
  readonly facts: ExportFacts;
  isLost = false;
  private readonly socket: StreamSocket;
  private readonly pending = new Map<number, Pending>();
  private readonly waiting: (() => void)[] = [];
  private cookie = 0;
  private readonly header = Buffer.alloc(32);
  private watchdog: NodeJS.Timeout | undefined = undefined;

  constructor(socket: StreamSocket, facts: ExportFacts) {
    this.socket = socket;
    this.facts = facts;
    this.receive().catch((error: unknown) => {
      this.lose(error);
    });
  }

  async run(request: NbdRequest): Promise<void> {
    while (this.pending.size >= IN_FLIGHT_MAX && !this.isLost) {
      await new Promise<void>((resolve) => {
        this.waiting.push(resolve);
      });
    }
    if (this.isLost) throw new ConnectionLost('the connection was lost before');
    await new Promise<void>((resolve, reject) => {
      const cookie = (this.cookie = (this.cookie + 1) % 2 ** 32);
      this.pending.set(cookie, { ...request, covered: 0, error: undefined, resolve, reject });
      this.send(cookie, request);
    });
  }

  /** Says goodbye; nothing is in flight. */
  close(): void {
    const bytes = this.encode(0, { command: Command.disconnect, offset: 0, length: 0 });
    this.isLost = true;
    clearInterval(this.watchdog);
    this.socket.end(bytes);
  }

  private send(cookie: number, request: NbdRequest): void {
    this.watchdog ??= setInterval(() => {
      this.checkSilence();
    }, SILENCE_MAX / 4).unref();
    if (this.pending.size === 1) this.socket.lastHeard = performance.now();
    this.socket.write(this.encode(cookie, request), request.payload);
  }

  private encode(cookie: number, { flags = 0, command, offset, length }: NbdRequest): Buffer {
    const bytes = Buffer.alloc(REQUEST_LENGTH);
    bytes.writeUInt32BE(MAGIC.request);
    bytes.writeUInt16BE(flags, 4);
    bytes.writeUInt16BE(command, 6);
    bytes.writeUInt32BE(cookie, 12);
    bytes.writeBigUInt64BE(BigInt(offset), 16);
    bytes.writeUInt32BE(length, 24);
    return bytes;
  }

  private checkSilence(): void {
    if (this.pending.size === 0 || performance.now() - this.socket.lastHeard < SILENCE_MAX) return;
    this.lose(new BlockError('ETIMEDOUT', `the server said nothing for ${SILENCE_MAX / 1000} s`));
  }

  private lose(error: unknown): void {
    if (this.isLost) return;
    this.isLost = true;
    clearInterval(this.watchdog);
    const why = error instanceof Error ? error.message : String(error);
    this.socket.destroy(new BlockError(errnoOf(error), why));
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const request of all) request.reject(new ConnectionLost(why));
    for (const resume of this.waiting.splice(0)) resume();
  }

  private async receive(): Promise<void> {
    const { header, socket } = this;
    for (;;) {
      await socket.read(header.subarray(0, 16));
      const magic = header.readUInt32BE(0);
      if (magic === MAGIC.simple) await this.simple();
      else if (magic === MAGIC.structured && this.facts.structured) await this.structured();
      else throw broken(`an answer begins with 0x${magic.toString(16)}`);
    }
  }

  private find(at: number): { cookie: number; request: Pending } {
    const cookie = this.header.readUInt32BE(at + 4);
    const request = this.pending.get(cookie);
    if (request === undefined || this.header.readUInt32BE(at) !== 0)
      throw broken('the server answers what was not asked');
    return { cookie, request };
  }

  private async simple(): Promise<void> {
    const { cookie, request } = this.find(8);
    const error = this.header.readUInt32BE(4);
    if (error === 0 && request.target !== undefined) {
      if (this.facts.structured) throw broken('the server gives a simple answer to a read');
      await this.socket.read(request.target);
      request.covered = request.target.length;
    }
    if (error !== 0) request.error = serverError(error, '');
    this.finish(cookie, request);
  }

  private async structured(): Promise<void> {
    const { header, socket } = this;
    await socket.read(header.subarray(16, 20));
    const flags = header.readUInt16BE(4);
    const type = header.readUInt16BE(6);
    const { cookie, request } = this.find(8);
    const length = header.readUInt32BE(16);
    if (type === Chunk.data) await this.data(request, length);
    else if (type === Chunk.hole) await this.hole(request, length);
    else if (type === Chunk.blockStatus) await this.status(request, length);
    else if ((type & CHUNK_ERROR) !== 0) await this.error(request, type, length);
    else if (type !== Chunk.none || length !== 0) throw broken(`a piece of an answer has type ${type}`);
    if ((flags & CHUNK_DONE) !== 0) this.finish(cookie, request);
  }

  private async data(request: Pending, length: number): Promise<void> {
    if (length <= 8) throw broken(`a piece of data has ${length} bytes`);
    await this.socket.read(this.header.subarray(20, 28));
    const place = this.place(request, this.header.readBigUInt64BE(20), length - 8);
    await this.socket.read(place);
  }

  private async hole(request: Pending, length: number): Promise<void> {
    if (length !== 12) throw broken(`a hole has ${length} bytes`);
    await this.socket.read(this.header.subarray(20, 32));
    this.place(request, this.header.readBigUInt64BE(20), this.header.readUInt32BE(28)).fill(0);
  }

  /** The part of the caller's buffer that a piece is for. */
  private place(request: Pending, offset: bigint, length: number): Buffer {
    const { target } = request;
    const at = Number(offset) - request.offset;
    if (target === undefined || at < 0 || length === 0 || at + length > target.length)
      throw broken(`a piece of ${length} bytes at ${offset} was not asked for`);
    request.covered += length;
    if (request.covered > target.length) throw broken('the server sends the same bytes twice');
    return target.subarray(at, at + length);
  }

  private async status(request: Pending, length: number): Promise<void> {
    if (request.status === undefined || length < 12 || length % 8 !== 4 || length > STATUS_MAX)
      throw broken(`a status of ${length} bytes`);
    const bytes = Buffer.alloc(length);
    await this.socket.read(bytes);
    if (bytes.readUInt32BE(0) !== this.facts.contextId)
      throw broken('a status of a context that was not asked');
    request.status(bytes.subarray(4));
  }

  private async error(request: Pending, type: number, length: number): Promise<void> {
    if (length < 6 || length > TEXT_MAX + 14) throw broken(`an error of ${length} bytes`);
    const bytes = Buffer.alloc(length);
    await this.socket.read(bytes);
    const known = type === Chunk.error || type === Chunk.errorOffset;
    const end = Math.min(length, 6 + bytes.readUInt16BE(4));
    const text = known ? bytes.toString('utf8', 6, end) : '';
    request.error ??= serverError(bytes.readUInt32BE(0), text);
  }

  private finish(cookie: number, request: Pending): void {
    this.pending.delete(cookie);
    this.waiting.shift()?.();
    const { error, target } = request;
    if (error !== undefined) request.reject(error);
    else if (target !== undefined && request.covered !== target.length) {
      request.reject(new BlockError('EIO', `the server sent ${request.covered} of ${target.length} bytes`));
    } else request.resolve();
  }
}

function serverError(value: number, text: string): BlockError {
  const code = errorCode(value);
  return new BlockError(code, `the server says ${code}${text === '' ? '' : ` ("${text}")`}`);
}

function broken(why: string): BlockError {
  return new BlockError('EPROTO', `${why}, which breaks the protocol`);
}
