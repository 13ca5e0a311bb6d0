import { DecompressedCache, readBlocks, tryReadBlocks } from '../../../src/block/decompressed-cache.ts';
import type { RequestDriver } from '../../../src/block/driver.ts';
import { limits } from '../../../src/block/limits.ts';
import { ReadAhead } from '../../../src/block/read-ahead.ts';
import type { RemoteFile } from './remote.ts';

const CACHE_BYTES = 16 * 1024 * 1024;
/** Blocks got ahead of a sequential reader: so many requests are under way at once. */
const AHEAD = 4;

/** A file on a web server, read in blocks, the last ones kept. */
export class HttpDisk implements RequestDriver {
  readonly family = 'request';
  readonly limits = limits({});
  readonly readOnly = true;
  readonly size: number;
  readonly filename: string;
  private readonly file: RemoteFile;
  private readonly block: number;
  private readonly cache: DecompressedCache;
  private readonly ahead: ReadAhead;

  /** @param block bytes that are asked for at once */
  constructor(file: RemoteFile, filename: string, block: number) {
    this.file = file;
    this.filename = filename;
    this.size = file.size;
    this.block = block;
    this.cache = new DecompressedCache(Math.max(CACHE_BYTES, block * (AHEAD + 2)));
    this.ahead = new ReadAhead(AHEAD, (index) => {
      if (index * block >= this.size) return false;
      // A failure is told to whoever asks for it.
      if (!this.cache.has(index)) this.fetch(index).catch(() => {});
      return true;
    });
  }

  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    if (!tryReadBlocks({ bytes, at, length }, offset, this.block, (index) => this.cache.get(index)))
      return false;
    this.note(offset, length);
    return true;
  }

  async read(bytes: Buffer, offset: number): Promise<void> {
    this.note(offset, bytes.length);
    await readBlocks(bytes, offset, this.block, (index) => this.fetch(index));
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    this.file.close();
    await this.cache.settled();
  }

  private note(offset: number, length: number): void {
    const { block } = this;
    this.ahead.note(Math.floor(offset / block), Math.floor((offset + length - 1) / block));
  }

  private fetch(index: number): Promise<Buffer> {
    const start = index * this.block;
    return this.cache.fetch(index, () => this.file.read(start, Math.min(this.block, this.size - start)));
  }
}
