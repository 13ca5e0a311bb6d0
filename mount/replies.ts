import createDebug from 'debug';
import { errnoOf } from '../src/block/errors.ts';
import { errnoNumber } from '../src/sys/libc.ts';
import type { IoBuffer } from './io-buffer.ts';
import { OUT_HEADER_SIZE, OutWord, Word } from './protocol/layout.ts';

const log = createDebug('blockfuse:fuse');
const ENOENT = errnoNumber('ENOENT');
const ENODEV = errnoNumber('ENODEV');

/** The end of the device that takes answers. */
export interface ReplySink {
  /** 0 or a negative errno. */
  write(address: number, length: number): number;
}

/** Which request an answer is for: its `unique`, in two words. */
export interface Unique {
  readonly low: number;
  readonly high: number;
}

/** Writes answers. An answer that nobody waits for any more is dropped silently. */
export class Replies {
  private readonly sink: ReplySink;

  constructor(sink: ReplySink) {
    this.sink = sink;
  }

  /** `length` bytes of data lie in `io`, which holds the request too. Allocates nothing. */
  data(io: IoBuffer, length: number): void {
    const request = io.requestWord;
    this.send(io, length, io.words[request + Word.uniqueLow] ?? 0, io.words[request + Word.uniqueHigh] ?? 0);
  }

  /** fuse_write_out to the WRITE request in `io`. Allocates nothing. */
  written(io: IoBuffer, length: number): void {
    const { words } = io;
    const body = io.replyWord + OutWord.body;
    words[body] = length;
    words[body + 1] = 0;
    this.data(io, 8);
  }

  /** `length` bytes of data lie in `io`, the request lay elsewhere. */
  dataFor(unique: Unique, io: IoBuffer, length: number): void {
    this.send(io, length, unique.low, unique.high);
  }

  writtenFor(unique: Unique, io: IoBuffer, length: number): void {
    const body = io.replyWord + OutWord.body;
    io.words[body] = length;
    io.words[body + 1] = 0;
    this.send(io, 8, unique.low, unique.high);
  }

  /** Any body that fits into `io`, whose content is lost. */
  body(unique: Unique, io: IoBuffer, body: Buffer): void {
    body.copy(io.bytes, io.data);
    this.send(io, body.length, unique.low, unique.high);
  }

  /** The errno of any thrown value. */
  failure(unique: Unique, io: IoBuffer, error: unknown): void {
    const code = errnoOf(error);
    log('request %d: %s %s', unique.low, code, error instanceof Error ? error.message : error);
    io.words[io.replyWord + OutWord.error] = -errnoNumber(code);
    this.post(io, OUT_HEADER_SIZE, unique.low, unique.high);
  }

  private send(io: IoBuffer, length: number, uniqueLow: number, uniqueHigh: number): void {
    io.words[io.replyWord + OutWord.error] = 0;
    this.post(io, OUT_HEADER_SIZE + length, uniqueLow, uniqueHigh);
  }

  private post(io: IoBuffer, length: number, uniqueLow: number, uniqueHigh: number): void {
    const { words } = io;
    const at = io.replyWord;
    words[at + OutWord.length] = length;
    words[at + OutWord.uniqueLow] = uniqueLow;
    words[at + OutWord.uniqueHigh] = uniqueHigh;
    const result = this.sink.write(io.address - OUT_HEADER_SIZE, length);
    if (result !== 0 && result !== -ENOENT && result !== -ENODEV)
      log('answer refused by the kernel: errno %d', -result);
  }
}

/** Reads the `unique` of the request in `io`. Allocates. */
export function uniqueOf(io: IoBuffer): Unique {
  const at = io.requestWord;
  return { low: io.words[at + Word.uniqueLow] ?? 0, high: io.words[at + Word.uniqueHigh] ?? 0 };
}
