/** One block of an xz file, unpacked in steps: a state machine without I/O. */
import { LZMA2_CHUNK_MAX, lzma2Chunk, Lzma2Decoder } from './lzma2.ts';
import type { Lzma2Chunk } from './lzma2.ts';
import type { XzBlockSetup, XzStep } from './unpack-service.ts';
import { readXzBlockHeader, xzCheckSize, XzVerifier } from './xz.ts';

/** A step ends when it has so many bytes: input says little about how much comes out of it. */
const STEP_PLAIN = 2 * 1024 * 1024;
/** What a step must be given, unless the file ends before: a chunk, or the end with padding and checksum. */
export const XZ_STEP_INPUT = 256 * 1024;

export class XzBlockDecoder {
  private readonly setup: XzBlockSetup;
  private readonly verifier: XzVerifier;
  private decoder: Lzma2Decoder | undefined = undefined;
  /** Bytes of the block that were read, header included: padding follows from it. */
  private taken = 0;
  private plain = 0;
  /** The last bytes, which are handed out only after the checksum behind them was seen to be right. */
  private held: Buffer[] = [];

  constructor(setup: XzBlockSetup) {
    this.setup = setup;
    this.verifier = new XzVerifier(setup.check);
  }

  /** Throws a RangeError where the block is damaged, or `input` ends before anything could be done with it. */
  step(input: Buffer): XzStep {
    const { size } = this.setup;
    const before = this.taken;
    let at = this.decoder === undefined ? this.start(input) : 0;
    const { decoder } = this;
    if (decoder === undefined) throw new RangeError('there is no block');
    const pieces: Buffer[] = [];
    let produced = 0;
    let ended = false;
    while (produced < STEP_PLAIN && !ended) {
      if (at > 0 && input.length - at < LZMA2_CHUNK_MAX) break;
      const chunk = nextChunk(input, at);
      if (chunk === 'end') {
        at = this.finish(input, at + 1);
        ended = true;
        break;
      }
      if (this.plain + chunk.plain > size) throw new RangeError(`more than ${size} bytes`);
      const plain = Buffer.from(decoder.decode(input, at, chunk));
      at += chunk.length;
      this.taken += chunk.length;
      this.plain += plain.length;
      produced += plain.length;
      this.verifier.update(plain);
      if (this.plain === size) this.held.push(plain);
      else pieces.push(plain);
    }
    const plain = Buffer.concat(ended ? [...pieces, ...this.held] : pieces);
    return { plain, used: ended ? at : this.taken - before, ended };
  }

  private start(input: Buffer): number {
    const header = readXzBlockHeader(input, 0);
    if (header === undefined) throw new RangeError('there is no block');
    const { size, dictionaryMax } = this.setup;
    const dictionary = Math.min(header.dictionary, size);
    if (dictionary > dictionaryMax)
      throw new RangeError(`a dictionary of ${dictionary} bytes, at most ${dictionaryMax} is supported`);
    this.decoder = new Lzma2Decoder(dictionary, size);
    this.taken = header.length;
    return header.length;
  }

  /** @returns where the next block begins */
  private finish(input: Buffer, at: number): number {
    if (this.plain !== this.setup.size)
      throw new RangeError(`it ends after ${this.plain} bytes, must have ${this.setup.size}`);
    const used = this.taken + 1;
    const check = at + Math.ceil(used / 4) * 4 - used;
    this.verifier.verify(input, check);
    return check + xzCheckSize(this.setup.check);
  }
}

function nextChunk(input: Buffer, at: number): Lzma2Chunk | 'end' {
  const chunk = lzma2Chunk(input, at);
  if (chunk === undefined) throw new RangeError('the file ends too early');
  if (chunk !== 'end' && at + chunk.length > input.length) throw new RangeError('the file ends too early');
  return chunk;
}
