/**
 * Reading far into a segment that can only be unpacked from its start. A cursor is an unpacker that stands somewhere
 * in a segment; it goes forward only:
 *
 *     segment |---------cursor A--->            cursor B-->        |
 *     wanted:            ^ A goes on      ^ A goes on        ^ B goes on
 *
 * What a cursor passes is handed to `passing`, so that a neighbour's request finds it. One request at a time moves
 * cursors; the others wait for it and then often find what they want.
 */
import { UnpackerLost } from '../../../src/util/unpack-service.ts';
import type { Segment } from './segments.ts';

/** What an unpacker had is lost with its thread: that says nothing about the file. */
function onceMore(move: () => Promise<Buffer>): (error: unknown) => Promise<Buffer> {
  return (error) => {
    if (error instanceof UnpackerLost) return move();
    throw error;
  };
}

/** Unpacks a segment from its start, in chunks of any size; undefined at its end. */
export interface PlainStream {
  next(): Promise<Buffer | undefined>;
  /** Resolves when it no longer uses the file. */
  close(): Promise<void>;
}

interface Cursor {
  readonly segment: number;
  readonly stream: PlainStream;
  /** Bytes of the segment that were handed out. */
  position: number;
  rest: Buffer;
  used: number;
}

export interface CursorSetup {
  readonly most: number;
  readonly pieceLength: number;
  open(segment: Segment): PlainStream;
  passing(offset: number, piece: Buffer): void;
}

export class Cursors {
  private readonly setup: CursorSetup;
  private readonly cursors: Cursor[] = [];
  private readonly closing = new Set<Promise<void>>();
  private tick = 0;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(setup: CursorSetup) {
    this.setup = setup;
  }

  /** The piece that begins `at` bytes (a multiple of the piece length) into a segment. `known` is asked again in turn. */
  read(segment: Segment, at: number, known: () => Buffer | undefined): Promise<Buffer> {
    const move = (): Promise<Buffer> => this.move(segment, at);
    const reading = this.turn.then(() => known() ?? move().catch(onceMore(move)));
    this.turn = reading.catch(() => {});
    return reading;
  }

  async close(): Promise<void> {
    for (const cursor of [...this.cursors]) this.drop(cursor);
    await Promise.all(this.closing);
  }

  private async move(segment: Segment, at: number): Promise<Buffer> {
    const cursor = this.choose(segment, at);
    this.tick += 1;
    cursor.used = this.tick;
    try {
      for (;;) {
        const { position } = cursor;
        const piece = await this.nextPiece(cursor, segment);
        if (position === at) return piece;
        this.setup.passing(segment.start + position, piece);
      }
    } catch (error) {
      this.drop(cursor);
      throw error;
    }
  }

  /** The cursor of the segment that is nearest before the place, else a new one. */
  private choose(segment: Segment, at: number): Cursor {
    const before = this.cursors
      .filter((one) => one.segment === segment.index && one.position <= at)
      .sort((one, other) => other.position - one.position);
    const [nearest] = before;
    if (nearest !== undefined) return nearest;
    const oldest = this.cursors.reduce<Cursor | undefined>(
      (found, one) => (found === undefined || one.used < found.used ? one : found),
      undefined,
    );
    if (this.cursors.length >= this.setup.most && oldest !== undefined) this.drop(oldest);
    const stream = this.setup.open(segment);
    const cursor = { segment: segment.index, stream, position: 0, rest: Buffer.alloc(0), used: 0 };
    this.cursors.push(cursor);
    return cursor;
  }

  private async nextPiece(cursor: Cursor, segment: Segment): Promise<Buffer> {
    const length = Math.min(this.setup.pieceLength, segment.length - cursor.position);
    const parts = [cursor.rest];
    let total = cursor.rest.length;
    while (total < length) {
      const chunk = await cursor.stream.next();
      if (chunk === undefined)
        throw new RangeError(`it ends after ${cursor.position + total} bytes, must have ${segment.length}`);
      parts.push(chunk);
      total += chunk.length;
    }
    const all = Buffer.concat(parts);
    cursor.rest = Buffer.from(all.subarray(length));
    cursor.position += length;
    return all.subarray(0, length);
  }

  private drop(cursor: Cursor): void {
    const index = this.cursors.indexOf(cursor);
    if (index >= 0) this.cursors.splice(index, 1);
    const closing: Promise<void> = cursor.stream.close().finally(() => this.closing.delete(closing));
    this.closing.add(closing);
  }
}
