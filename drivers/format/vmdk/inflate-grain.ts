import { createInflate, inflateRaw } from 'node:zlib';
import type { Inflate } from 'node:zlib';

/** Blocks up to this size share the output buffer of a stream, a few at a time: most then take one trip to the pool. */
const SMALL = 128 * 1024;
const SHARED = 8;

/** Inflates blocks on the thread pool, with streams that are used again: making one costs as much as a block. */
export class Inflaters {
  private readonly most: number;
  private readonly idle: Inflater[] = [];

  /** @param most bytes that a block may have when inflated */
  constructor(most: number) {
    this.most = most;
  }

  /** Rejects when `bytes` are no deflated data, or there is more in them than the block may have. */
  async run(bytes: Buffer): Promise<Buffer> {
    if (!hasZlibHeader(bytes)) return inflateBare(bytes, this.most);
    const inflater = this.idle.pop() ?? new Inflater(this.most);
    const block = await inflater.run(bytes);
    if (inflater.isWhole) this.idle.push(inflater);
    else inflater.destroy();
    return block;
  }

  close(): void {
    for (const inflater of this.idle.splice(0)) inflater.destroy();
  }
}

class Inflater {
  /** The last block ended where its bytes ended: the stream can be used again. */
  isWhole = false;
  private readonly stream: Inflate;
  private readonly most: number;
  private chunks: Buffer[] = [];
  private length = 0;
  private consumed = 0;
  private fail: (error: Error) => void = () => {};

  constructor(most: number) {
    this.most = most;
    this.stream = createInflate({ chunkSize: (most <= SMALL ? most * SHARED : most) + 1024 });
    this.stream.on('data', (chunk: Buffer) => {
      this.take(chunk);
    });
    this.stream.on('error', (error) => {
      this.fail(error);
    });
  }

  run(bytes: Buffer): Promise<Buffer> {
    this.chunks = [];
    this.length = 0;
    this.stream.reset();
    return new Promise((resolve, reject) => {
      this.fail = reject;
      this.stream.write(bytes, () => {
        const { bytesWritten } = this.stream;
        this.isWhole = bytesWritten - this.consumed === bytes.length;
        this.consumed = bytesWritten;
        resolve(Buffer.concat(this.chunks, this.length));
      });
    });
  }

  destroy(): void {
    this.stream.destroy();
  }

  private take(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.length += chunk.length;
    if (this.length > this.most)
      this.stream.destroy(new RangeError(`there are more than ${this.most} bytes`));
  }
}

function inflateBare(bytes: Buffer, most: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    inflateRaw(bytes, { maxOutputLength: most }, (error, block) => {
      if (error === null) resolve(block);
      else reject(error);
    });
  });
}

/** RFC 1950: method 8, and the first two bytes are a multiple of 31. The specification says deflate; all write zlib. */
function hasZlibHeader(bytes: Buffer): boolean {
  return bytes.length >= 2 && ((bytes[0] ?? 0) & 15) === 8 && bytes.readUInt16BE(0) % 31 === 0;
}
