import { once } from 'node:events';
import type { ZstdDecompress } from 'node:zlib';
import type { Child } from '../../../src/block/child.ts';
import type { PlainStream } from './cursors.ts';
import { readPacked } from './image.ts';
import type { Segment } from './segments.ts';

const READ = 256 * 1024;

/** Unpacks a segment of the file through a decoder of node:zlib, which works on the thread pool. */
export class ZlibStream implements PlainStream {
  private readonly decoder: ZstdDecompress;
  private readonly chunks: AsyncIterator<Buffer>;
  private readonly feeding: Promise<void>;
  private readonly closed: Promise<void>;

  constructor(file: Child, segment: Segment, decoder: ZstdDecompress) {
    this.decoder = decoder;
    this.closed = new Promise((resolve) => {
      decoder.once('close', resolve);
    });
    this.chunks = decoder[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.feeding = this.feed(file, segment).catch((error: unknown) => {
      decoder.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  }

  async next(): Promise<Buffer | undefined> {
    const { done, value } = await this.chunks.next();
    return done === true ? undefined : value;
  }

  close(): Promise<void> {
    this.decoder.destroy();
    return this.feeding;
  }

  private async feed(file: Child, { offset, packed }: Segment): Promise<void> {
    const { decoder } = this;
    for (let at = 0; at < packed && !decoder.destroyed; at += READ) {
      const bytes = await readPacked(file, offset + at, Math.min(READ, packed - at));
      if (decoder.destroyed) return;
      if (!decoder.write(bytes)) await Promise.race([once(decoder, 'drain'), this.closed]);
    }
    decoder.end();
  }
}
