import type { Child } from '../../../src/block/child.ts';
import type { Lzma2Chunk } from '../../../src/util/lzma2.ts';
import { LZMA2_CHUNK_MAX, lzma2Chunk, Lzma2Decoder } from '../../../src/util/lzma2.ts';
import { readXzBlockHeader, xzCheckSize, XzVerifier } from '../../../src/util/xz.ts';
import type { PlainStream } from './cursors.ts';
import { readPacked } from './image.ts';
import type { Segment } from './segments.ts';

const HEADER_MAX = 1024;
const READ = 256 * 1024;
export const DICTIONARY_MAX = 64 * 1024 * 1024;

/**
 * Unpacks one block of an xz file, chunk by chunk. The work is done here and not on the thread pool: between two chunks
 * (64 KiB packed at most) whatever else is due has its turn.
 */
export class XzStream implements PlainStream {
  private readonly file: Child;
  private readonly segment: Segment;
  private readonly check: number;
  private readonly verifier: XzVerifier;
  private decoder: Lzma2Decoder | undefined = undefined;
  private input: Buffer = Buffer.alloc(0);
  /** Position in the file of `input`, and in `input` of the next chunk. */
  private base: number;
  private at = 0;
  private plain = 0;

  constructor(file: Child, segment: Segment, check: number) {
    this.file = file;
    this.segment = segment;
    this.check = check;
    this.verifier = new XzVerifier(check);
    this.base = segment.offset;
  }

  async next(): Promise<Buffer | undefined> {
    const decoder = (this.decoder ??= await this.start());
    const chunk = await this.nextChunk();
    if (chunk === 'end') {
      await this.finish();
      return undefined;
    }
    if (this.plain + chunk.plain > this.segment.length)
      throw new RangeError(`more than ${this.segment.length} bytes`);
    const plain = Buffer.from(decoder.decode(this.input, this.at, chunk));
    this.at += chunk.length;
    this.plain += plain.length;
    this.verifier.update(plain);
    if (this.plain === this.segment.length) await this.finishAtEnd();
    await breathe();
    return plain;
  }

  close(): void {
    this.decoder = undefined;
  }

  private async start(): Promise<Lzma2Decoder> {
    const bytes = await readPacked(this.file, this.base, HEADER_MAX);
    const header = readXzBlockHeader(bytes, 0);
    if (header === undefined) throw new RangeError('there is no block');
    const dictionary = Math.min(header.dictionary, this.segment.length);
    if (dictionary > DICTIONARY_MAX) {
      throw new RangeError(`a dictionary of ${dictionary} bytes, at most ${DICTIONARY_MAX} is supported`);
    }
    this.base += header.length;
    return new Lzma2Decoder(dictionary, this.segment.length);
  }

  private async nextChunk(): Promise<Lzma2Chunk | 'end'> {
    if (this.input.length - this.at < LZMA2_CHUNK_MAX) await this.refill();
    const chunk = lzma2Chunk(this.input, this.at);
    if (chunk === undefined) throw new RangeError('the file ends too early');
    if (chunk !== 'end' && this.at + chunk.length > this.input.length)
      throw new RangeError('the file ends too early');
    return chunk;
  }

  private async refill(): Promise<void> {
    this.base += this.at;
    this.at = 0;
    this.input = await readPacked(this.file, this.base, READ);
  }

  /** The last bytes are handed out only after the checksum behind them was seen to be right. */
  private async finishAtEnd(): Promise<void> {
    if ((await this.nextChunk()) !== 'end') throw new RangeError(`more than ${this.segment.length} bytes`);
    await this.finish();
  }

  private async finish(): Promise<void> {
    const used = this.base + this.at + 1 - this.segment.offset;
    const end = this.segment.offset + Math.ceil(used / 4) * 4;
    const bytes = await readPacked(this.file, end, xzCheckSize(this.check));
    this.verifier.verify(bytes, 0);
  }
}

function breathe(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
