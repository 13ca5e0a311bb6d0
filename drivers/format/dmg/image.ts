import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import type { Child } from '../../../src/block/child.ts';
import { ByteBudget } from '../../../src/block/byte-budget.ts';
import { DecompressedCache } from '../../../src/block/decompressed-cache.ts';
import type { ImageInfo, MappingDriver } from '../../../src/block/driver.ts';
import type { Extent } from '../../../src/block/extent.ts';
import { limits } from '../../../src/block/limits.ts';
import { ReadAhead } from '../../../src/block/read-ahead.ts';
import { damaged } from '../../../src/block/refuse.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import { isPacked } from './chunks.ts';
import type { BlockTable, Chunk } from './chunks.ts';
import type { Koly } from './koly.ts';

/** Chunks of one request that are worked on at once, and the bytes that they may take. */
const PARALLEL = 8;
const PARALLEL_BYTES = 64 * 1024 * 1024;
/** Memory of all chunks being unpacked, packed bytes included. */
const WORK_BYTES = 128 * 1024 * 1024;
/** Chunks read ahead of a sequential reader; larger ones are not. */
const AHEAD = 6;
const AHEAD_CHUNK_MAX = 2 * 1024 * 1024;

export interface DmgParts {
  readonly file: Child;
  readonly subject: string;
  /** In the order of the disk. */
  readonly chunks: readonly Chunk[];
  readonly tables: readonly BlockTable[];
  readonly koly: Koly;
  readonly size: number;
  readonly unpacker: UnpackService;
}

/** A UDIF image: chunks in the order of the disk; what no chunk covers reads as zeroes. */
export class DmgImage implements MappingDriver {
  readonly family = 'mapping';
  readonly readOnly = true;
  readonly limits = limits({});
  readonly size: number;
  readonly parts: DmgParts;
  private readonly file: Child;
  private readonly subject: string;
  private readonly chunks: readonly Chunk[];
  private readonly unpacker: UnpackService;
  private readonly cache = new DecompressedCache();
  private readonly budget = new ByteBudget(WORK_BYTES);
  private readonly ahead = new ReadAhead(AHEAD, (index) => this.readAhead(index));
  private last = 0;

  constructor(parts: DmgParts) {
    this.parts = parts;
    this.file = parts.file;
    this.subject = parts.subject;
    this.chunks = parts.chunks;
    this.unpacker = parts.unpacker;
    this.size = parts.size;
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const length = Math.min(max, this.size - offset);
    const index = this.find(offset);
    const chunk = this.chunks[index];
    if (chunk === undefined || offset >= chunk.start + chunk.length) {
      const next = this.chunks[index + 1]?.start ?? this.size;
      return out.setZero(Math.min(length, next - offset));
    }
    const inside = offset - chunk.start;
    const inChunk = Math.min(length, chunk.length - inside);
    if (chunk.kind === 'raw') return out.setData(this.file, chunk.offset + inside, inChunk, false);
    if (!isPacked(chunk)) return out.setZero(inChunk);
    return out.setOpaque(Math.min(length, this.packedEnd(index, offset + length) - offset), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  /** The range lies in packed chunks, as tryMap said. */
  async readOpaque(bytes: Buffer, offset: number): Promise<void> {
    const end = offset + bytes.length;
    const begin = this.find(offset);
    this.ahead.note(begin, this.find(end - 1));
    for (let first = begin; ;) {
      const work: Promise<void>[] = [];
      let taken = 0;
      for (; work.length < PARALLEL && taken < PARALLEL_BYTES; first += 1) {
        const chunk = this.chunks[first];
        if (chunk === undefined || chunk.start >= end) break;
        taken += chunk.length;
        work.push(this.copyChunk(chunk, bytes, offset));
      }
      if (work.length === 0) return;
      await Promise.all(work);
    }
  }

  tryReadOpaque(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const target = bytes.subarray(at, at + length);
    const first = this.find(offset);
    for (let index = first; ; index += 1) {
      const chunk = this.chunks[index];
      if (chunk === undefined || chunk.start >= offset + length) {
        this.ahead.note(first, index - 1);
        return true;
      }
      const plain = this.cache.get(chunk.start);
      if (plain === undefined) return false;
      copyPart(chunk, plain, target, offset);
    }
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return this.cache.settled();
  }

  caches(): CacheCounters[] {
    return [this.cache.counters()];
  }

  info(): Promise<ImageInfo> {
    const kinds = [...new Set(this.chunks.map(({ kind }) => kind))].sort();
    return Promise.resolve({ compressed: true, formatSpecific: { chunks: this.chunks.length, kinds } });
  }

  private async copyChunk(chunk: Chunk, bytes: Buffer, offset: number): Promise<void> {
    copyPart(chunk, await this.fetch(chunk), bytes, offset);
  }

  private fetch(chunk: Chunk): Promise<Buffer> {
    const { start, packed, length } = chunk;
    return this.cache.fetch(start, () => this.budget.run(packed + length, () => this.unpack(chunk)));
  }

  private readAhead(index: number): boolean {
    const chunk = this.chunks[index];
    if (chunk === undefined || chunk.length > AHEAD_CHUNK_MAX) return false;
    // A failure is told to whoever asks for it.
    if (isPacked(chunk) && !this.cache.has(chunk.start)) this.fetch(chunk).catch(() => {});
    return true;
  }

  /** What a packed chunk holds; rejects with what is wrong with it. */
  async unpack(chunk: Chunk): Promise<Buffer> {
    const { packed, offset, length, start, kind } = chunk;
    if (!isPacked(chunk)) throw damaged(this.subject, `the chunk at ${start} is ${kind}`, 'must be packed');
    const packing = chunk.kind === 'lzma' ? 'xz' : chunk.kind;
    const bytes = Buffer.allocUnsafe(packed);
    await this.file.read(bytes, offset);
    return this.unpacker.unpack(bytes, { packing, size: length }).catch((error: unknown) => {
      throw damaged(
        this.subject,
        `the ${kind} chunk at ${start}: ${String(error)}`,
        `must unpack to ${length} bytes`,
      );
    });
  }

  /** The last chunk that begins at or before `offset`; -1 without one. */
  private find(offset: number): number {
    const { chunks, last } = this;
    const near = chunks[last];
    if (near !== undefined && offset >= near.start && offset < near.start + near.length) return last;
    let low = -1;
    let high = chunks.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((chunks[middle]?.start ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    this.last = Math.max(0, low);
    return low;
  }

  /** Where the run of neighbouring packed chunks ends, looking no further than `limit`. */
  private packedEnd(index: number, limit: number): number {
    let end = this.chunks[index]?.start ?? 0;
    for (let next = index; ; next += 1) {
      const chunk = this.chunks[next];
      if (chunk === undefined || chunk.start !== end || !isPacked(chunk)) return end;
      end += chunk.length;
      if (end >= limit) return end;
    }
  }
}

/** Copies what a chunk and the range of `bytes` (at `offset` of the disk) have in common. */
function copyPart(chunk: Chunk, plain: Buffer, bytes: Buffer, offset: number): void {
  const from = Math.max(offset, chunk.start);
  const to = Math.min(offset + bytes.length, chunk.start + chunk.length);
  plain.copy(bytes, from - offset, from - chunk.start, to - chunk.start);
}
