/**
 * Blocks that took work to get (decompressed), shared by whoever asks for them while they are in memory.
 * Bounded by bytes, least recently used first out; the newest stays whatever its size. The memory of what goes is used again or
 * freed when the turn of the event loop is over: whoever was given a block copies from it in the same turn, and keeps it
 * no longer.
 */
import { isFreed } from '../util/free-memory.ts';
import { SpareMemory } from '../util/spare-memory.ts';
import type { CacheCounters } from './cache-counters.ts';

const DEFAULT_BYTES = 32 * 1024 * 1024;
/** Blocks of one request that are worked on at once: enough to keep every thread of the pool busy. */
const PARALLEL = 16;
const PARALLEL_BYTES = 16 * 1024 * 1024;
const SPARE_BYTES = 4 * 1024 * 1024;

export class DecompressedCache {
  private readonly maxBytes: number;
  private readonly blocks = new Map<number, Buffer>();
  private readonly underWay = new Map<number, Promise<Buffer>>();
  private readonly dying = new Set<Buffer>();
  private readonly spare = new SpareMemory(SPARE_BYTES);
  private bytes = 0;
  private hits = 0;
  private misses = 0;

  constructor(maxBytes = DEFAULT_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** The block if it is here; its bytes must not be changed. */
  get(key: number): Buffer | undefined {
    const block = this.blocks.get(key);
    if (block === undefined) return undefined;
    this.blocks.delete(key);
    this.blocks.set(key, block);
    this.hits += 1;
    return block;
  }

  /** The block, made by `make` unless it is here or being made already. A failure is not remembered. */
  fetch(key: number, make: () => Promise<Buffer>): Promise<Buffer> {
    const block = this.get(key);
    if (block !== undefined) return Promise.resolve(block);
    const known = this.underWay.get(key);
    if (known !== undefined) return known;
    this.misses += 1;
    const making = make()
      .then((made) => this.keep(key, made))
      .finally(() => this.underWay.delete(key));
    this.underWay.set(key, making);
    return making;
  }

  /** The same, of a known size, which `fill` puts into the memory that it is given. */
  fetchInto(key: number, size: number, fill: (room: Buffer) => Promise<void>): Promise<Buffer> {
    return this.fetch(key, async () => {
      const room = this.spare.take(size);
      try {
        await fill(room);
      } catch (error) {
        this.spare.give(room);
        throw error;
      }
      return room;
    });
  }

  counters(name = 'decompressed'): CacheCounters {
    const { hits, misses, bytes, maxBytes: capacity } = this;
    return { name, hits, misses, bytes, capacity };
  }

  has(key: number): boolean {
    return this.blocks.has(key) || this.underWay.has(key);
  }

  /** Resolves when nothing is being made any more. */
  async settled(): Promise<void> {
    while (this.underWay.size > 0) await Promise.allSettled(this.underWay.values());
  }

  /** Takes in a block that came by the way. */
  put(key: number, block: Buffer): void {
    if (!this.blocks.has(key)) this.keep(key, block);
  }

  private keep(key: number, block: Buffer): Buffer {
    this.bytes -= this.blocks.get(key)?.length ?? 0;
    this.dying.delete(block);
    this.blocks.set(key, block);
    this.bytes += block.length;
    for (const [oldest, dead] of this.blocks) {
      if (this.bytes <= this.maxBytes || oldest === key) break;
      this.blocks.delete(oldest);
      this.bytes -= dead.length;
      this.free(dead);
    }
    return block;
  }

  private free(dead: Buffer): void {
    if (this.dying.size === 0) {
      setImmediate(() => {
        for (const block of this.dying) this.spare.give(block);
        this.dying.clear();
      });
    }
    this.dying.add(dead);
  }
}

/**
 * Fills `bytes` from blocks of `unit` bytes of the node's address space; neighbours are got in parallel.
 * `get` answers with a whole block, which may be shorter at the end of the disk.
 */
export async function readBlocks(
  bytes: Buffer,
  offset: number,
  unit: number,
  get: (index: number) => Promise<Buffer>,
): Promise<void> {
  const first = Math.floor(offset / unit);
  const last = Math.floor((offset + bytes.length - 1) / unit);
  const parallel = Math.max(1, Math.min(PARALLEL, Math.floor(PARALLEL_BYTES / unit)));
  const copy = async (index: number): Promise<void> => {
    const block = await get(index);
    if (isFreed(block)) throw new TypeError(`block ${index} was freed while it was read`);
    const start = index * unit;
    const from = Math.max(offset, start);
    const to = Math.min(offset + bytes.length, start + unit);
    const end = bytes.subarray(from - offset, to - offset);
    end.fill(0, block.copy(end, 0, from - start, to - start));
  };
  for (let index = first; index <= last; index += parallel) {
    const count = Math.min(parallel, last - index + 1);
    await Promise.all(Array.from({ length: count }, (_, step) => copy(index + step)));
  }
}

/** The same from blocks in memory; false when one is missing. */
export function tryReadBlocks(
  target: { bytes: Buffer; at: number; length: number },
  offset: number,
  unit: number,
  get: (index: number) => Buffer | undefined,
): boolean {
  const end = offset + target.length;
  for (let from = offset; from < end;) {
    const index = Math.floor(from / unit);
    const block = get(index);
    if (block === undefined) return false;
    const start = index * unit;
    const to = Math.min(end, start + unit);
    const at = target.at + from - offset;
    const copied = block.copy(target.bytes, at, from - start, to - start);
    target.bytes.fill(0, at + copied, at + to - from);
    from = to;
  }
  return true;
}
