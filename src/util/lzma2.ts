/** LZMA2: chunks of LZMA, or of bytes as they are, over one dictionary. A state machine without I/O. */
import { LzmaDecoder } from './lzma.ts';

/** A chunk unpacks to at most so much, and takes at most so much with its header. */
const PLAIN_MAX = 2 * 1024 * 1024;
export const LZMA2_CHUNK_MAX = 64 * 1024 + 6;
const HEADER_MAX = 6;

export interface Lzma2Chunk {
  readonly control: number;
  readonly header: number;
  /** Bytes with the header. */
  readonly length: number;
  readonly plain: number;
}

/** The chunk that begins at `at`; 'end' for the mark of the last one; undefined when more bytes are needed to tell. */
export function lzma2Chunk(bytes: Buffer, at: number): Lzma2Chunk | 'end' | undefined {
  const control = bytes[at];
  if (control === undefined) return undefined;
  if (control === 0) return 'end';
  if (control > 2 && control < 0x80) throw new RangeError(`lzma2: control byte is ${control}`);
  if (bytes.length - at < Math.min(HEADER_MAX, control < 0x80 ? 3 : control >= 0xc0 ? 6 : 5))
    return undefined;
  if (control < 0x80) {
    const plain = bytes.readUInt16BE(at + 1) + 1;
    return { control, header: 3, length: 3 + plain, plain };
  }
  const header = control >= 0xc0 ? 6 : 5;
  const plain = (control & 0x1f) * 65536 + bytes.readUInt16BE(at + 1) + 1;
  return { control, header, length: header + bytes.readUInt16BE(at + 3) + 1, plain };
}

export class Lzma2Decoder {
  private readonly dictionary: number;
  private readonly lzma: LzmaDecoder;
  private needsDictionary = true;
  private needsProperties = true;

  /** @param total bytes that will be unpacked in all, if known: the window is then no larger */
  constructor(dictionary: number, total = Number.POSITIVE_INFINITY) {
    this.dictionary = dictionary;
    const sliding = dictionary * 2 + PLAIN_MAX;
    this.lzma = new LzmaDecoder(Buffer.alloc(Math.min(sliding, total)));
  }

  /** Unpacks one whole chunk. The result is part of the window: valid until the next call. */
  decode(bytes: Buffer, at: number, chunk: Lzma2Chunk): Buffer {
    const { lzma } = this;
    this.makeRoom(chunk.plain);
    const start = lzma.at;
    const { control } = chunk;
    if (control === 1 || control >= 0xe0) this.resetDictionary();
    else if (this.needsDictionary)
      throw new RangeError('lzma2: the first chunk does not reset the dictionary');
    if (control < 0x80) {
      lzma.copy(bytes.subarray(at + chunk.header, at + chunk.length));
    } else {
      if (control >= 0xc0) {
        lzma.setProperties(bytes[at + 5] ?? 255);
        this.needsProperties = false;
      } else if (this.needsProperties) {
        throw new RangeError('lzma2: a chunk without properties where they are needed');
      } else if (control >= 0xa0) {
        lzma.resetState();
      }
      lzma.decode(bytes, at + chunk.header, at + chunk.length, chunk.plain);
    }
    return lzma.window.subarray(start, lzma.at);
  }

  private resetDictionary(): void {
    this.lzma.resetDictionary();
    this.needsDictionary = false;
  }

  /** Slides the window so that a chunk fits behind the dictionary. */
  private makeRoom(length: number): void {
    const { lzma } = this;
    if (lzma.at + length <= lzma.window.length) return;
    const keep = Math.min(this.dictionary, lzma.reach);
    lzma.window.copyWithin(0, lzma.at - keep, lzma.at);
    lzma.at = keep;
    lzma.reach = keep;
    if (lzma.at + length > lzma.window.length)
      throw new RangeError('lzma2: more bytes than the container says');
  }
}
