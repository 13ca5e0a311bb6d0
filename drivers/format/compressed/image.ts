import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { Child } from '../../../src/block/child.ts';
import { ByteBudget } from '../../../src/block/byte-budget.ts';
import { DecompressedCache } from '../../../src/block/decompressed-cache.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import { ReadAhead } from '../../../src/block/read-ahead.ts';
import { damaged } from '../../../src/block/refuse.ts';
import { Cursors } from './cursors.ts';
import type { PlainStream } from './cursors.ts';
import type { Segment, SegmentList } from './segments.ts';

const PIECE = 1024 * 1024;
const CACHE_BYTES = 48 * 1024 * 1024;
/** Memory of whole segments being unpacked, packed bytes included. */
const WORK_BYTES = 128 * 1024 * 1024;
const PARALLEL = 8;
/** Segments got ahead of a sequential reader, as far as the cache holds them beside the one being read. */
const AHEAD = 8;

/** How one container is unpacked. */
export interface Unpacker {
  readonly name: string;
  readonly segments: SegmentList;
  /** Segments up to this size are unpacked as a whole, longer ones in pieces by a cursor. */
  readonly wholeMax: number;
  unpackWhole(segment: Segment): Promise<Buffer>;
  open(segment: Segment): PlainStream;
  /** Cursors at a time: their memory is the reason for the bound. */
  readonly cursors: number;
}

/** A flat disk in a compressed file, read only. */
export class CompressedImage implements MappingDriver {
  readonly family = 'mapping';
  readonly readOnly = true;
  readonly limits = limits({});
  readonly size: number;
  private readonly subject: string;
  private readonly unpacker: Unpacker;
  private readonly wholeMax: number;
  private readonly cache = new DecompressedCache(CACHE_BYTES);
  private readonly cursors: Cursors;
  private readonly budget = new ByteBudget(WORK_BYTES);
  private readonly ahead = new ReadAhead(AHEAD, (index) => this.readAhead(index));
  private reading = 0;

  constructor(unpacker: Unpacker, subject: string) {
    this.unpacker = unpacker;
    this.subject = subject;
    this.size = unpacker.segments.size;
    this.wholeMax = unpacker.wholeMax;
    this.cursors = new Cursors({
      most: unpacker.cursors,
      pieceLength: PIECE,
      open: (segment) => unpacker.open(segment),
      passing: (offset, piece) => this.cache.put(offset, piece),
    });
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setOpaque(Math.min(max, this.size - offset), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    const end = offset + bytes.length;
    this.noteReading(offset, end);
    for (let at = offset; at < end;) {
      const work: Promise<void>[] = [];
      for (; at < end && work.length < PARALLEL;) {
        const { start, length } = this.pieceAt(at);
        work.push(this.copyPiece(start, bytes, offset));
        at = start + length;
      }
      await Promise.all(work);
    }
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const target = bytes.subarray(at, at + length);
    for (let from = offset; from < offset + length;) {
      const piece = this.pieceAt(from);
      const plain = this.cache.get(piece.start);
      if (plain === undefined) return false;
      copyPart(plain, piece.start, target, offset);
      from = piece.start + piece.length;
    }
    this.noteReading(offset, offset + length);
    return true;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.cache.settled();
    await this.cursors.close();
  }

  caches(): CacheCounters[] {
    return [this.cache.counters()];
  }

  info(): Promise<ImageInfo> {
    const { segments } = this.unpacker;
    const formatSpecific = { segments: segments.count, 'longest-segment': segments.longest };
    return Promise.resolve({ compressed: true, formatSpecific });
  }

  /** What is unpacked in one go around a byte of the disk. */
  private pieceAt(offset: number): { segment: Segment; start: number; length: number } {
    const { segments } = this.unpacker;
    const segment = segments.at(segments.find(offset));
    if (segment.length <= this.wholeMax) return { segment, start: segment.start, length: segment.length };
    const inside = offset - segment.start;
    const at = inside - (inside % PIECE);
    return { segment, start: segment.start + at, length: Math.min(PIECE, segment.length - at) };
  }

  private noteReading(from: number, to: number): void {
    const { segments } = this.unpacker;
    this.reading = segments.find(to - 1);
    this.ahead.note(segments.find(from), this.reading);
  }

  private readAhead(index: number): boolean {
    const { segments } = this.unpacker;
    if (index >= segments.count) return false;
    const { start, length } = segments.at(index);
    if (length > this.wholeMax || length * (index - this.reading + 1) > CACHE_BYTES) return false;
    // A failure is told to whoever asks for it.
    if (!this.cache.has(start)) this.fetch(start).catch(() => {});
    return true;
  }

  private fetch(start: number): Promise<Buffer> {
    return this.cache.fetch(start, () => this.unpack(start));
  }

  private async copyPiece(start: number, bytes: Buffer, offset: number): Promise<void> {
    const plain = await this.fetch(start);
    copyPart(plain, start, bytes, offset);
  }

  private async unpack(start: number): Promise<Buffer> {
    const { segment } = this.pieceAt(start);
    const { unpacker } = this;
    try {
      if (segment.length <= this.wholeMax) {
        return await this.budget.run(segment.length + segment.packed, () => unpacker.unpackWhole(segment));
      }
      return await this.cursors.read(segment, start - segment.start, () => this.cache.get(start));
    } catch (error) {
      const is = `the ${unpacker.name} data at byte ${segment.offset}: ${error instanceof Error ? error.message : String(error)}`;
      throw damaged(this.subject, is, `must unpack to ${segment.length} bytes`);
    }
  }
}

function copyPart(plain: Buffer, start: number, bytes: Buffer, offset: number): void {
  const from = Math.max(offset, start);
  const to = Math.min(offset + bytes.length, start + plain.length);
  if (to > from) plain.copy(bytes, from - offset, from - start, to - start);
}

/** Reads bytes of the packed file; shorter at its end. */
export async function readPacked(file: Child, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, file.size - offset)));
  if (bytes.length > 0) await file.read(bytes, offset);
  return bytes;
}
