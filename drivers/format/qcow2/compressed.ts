/**
 * Reading compressed clusters.
 *
 *   readOpaque -> entries of the range, and of the next clusters when reading goes on where it ended
 *              -> those not in the cache and not under way: neighbours in the file are read as one
 *              -> each decompressed by the service that the image has, on threads -> cache -> copied out
 */
import type { CacheCounters } from '../../../src/block/cache-counters.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { UnpackJob } from '../../../src/util/unpack-service.ts';
import { CompressedPlace } from './compressed-place.ts';
import { DecompressedCache } from './decompressed-cache.ts';
import type { Image } from './image.ts';
import { PackedBuffers } from './packed-buffers.ts';
import { Kind, L2Entry } from './l2-entry.ts';
import type { L2Cache } from './l2-cache.ts';

const CACHE_BYTES = 4 * 1024 * 1024;
const READ_AHEAD_BYTES = 1024 * 1024;
const MERGED_READ_MAX = 1024 * 1024;
/** Bytes between two compressed clusters that are read along rather than skipped. */
const MERGE_GAP = 4096;

interface Stored {
  readonly offset: number;
  readonly length: number;
}

export class CompressedReader {
  private readonly image: Image;
  private readonly l2: L2Cache;
  private readonly size: () => number;
  private readonly entry: L2Entry;
  private readonly place = new CompressedPlace();
  private readonly cache: DecompressedCache;
  private readonly job: UnpackJob;
  private readonly packed = new PackedBuffers(MERGED_READ_MAX);
  private readonly running = new Map<number, Unpacking>();
  private readonly readAhead: number;
  private expected = -1;

  /** @param size bytes of the disk: nothing is read ahead past it */
  constructor(image: Image, l2: L2Cache, size: () => number = () => image.size) {
    const { clusterSize } = image.geometry;
    this.image = image;
    this.l2 = l2;
    this.size = size;
    this.entry = new L2Entry(image);
    this.readAhead = Math.max(1, Math.floor(READ_AHEAD_BYTES / clusterSize));
    const capacity = Math.max(4 + this.readAhead, Math.floor(CACHE_BYTES / clusterSize));
    this.cache = new DecompressedCache(capacity, clusterSize);
    // Specification: compression type 0 is deflate without a header, 1 Zstandard.
    const packing = image.header.fields.compression_type === 1 ? 'zstd' : 'deflate';
    this.job = { packing, size: clusterSize };
  }

  caches(): CacheCounters {
    return this.cache.counters();
  }

  /** Contract: MappingDriver.tryReadOpaque. */
  tryRead(bytes: Buffer, at: number, length: number, offset: number): boolean {
    const { clusterSize } = this.image.geometry;
    const first = offset - (offset % clusterSize);
    if (!this.cacheHas(first, offset + length)) return false;
    for (let guest = first; guest < offset + length; guest += clusterSize) {
      const stored = this.tryLocate(guest);
      const content = typeof stored === 'object' ? this.cache.get(stored.offset) : undefined;
      if (content === undefined) return false;
      copyOut(content, guest, { bytes, at, length, offset });
    }
    return true;
  }

  /** Contract: MappingDriver.readOpaque. */
  async read(bytes: Buffer, offset: number): Promise<void> {
    const { clusterSize } = this.image.geometry;
    const first = offset - (offset % clusterSize);
    const end = offset + bytes.length;
    const clusters: Stored[] = [];
    for (let guest = first; guest < end; guest += clusterSize) clusters.push(await this.locate(guest));
    this.startMissing(this.withReadAhead(clusters, first, end));
    const request = { bytes, at: 0, length: bytes.length, offset };
    const waits: Promise<void>[] = [];
    for (const [index, { offset: place }] of clusters.entries()) {
      const wait = this.deliver(place, (content) => {
        copyOut(content, first + index * clusterSize, request);
      });
      if (wait !== undefined) waits.push(wait);
    }
    // All of them, even after a failure: nothing may write into the caller's buffer later.
    await Promise.allSettled(waits);
    await Promise.all(waits);
  }

  /** Other bytes were written to this place: what is known of it, or being read there, is not what it holds now. */
  forget(place: number): void {
    this.cache.delete(place);
    this.running.delete(place);
  }

  private cacheHas(first: number, end: number): boolean {
    for (let guest = first; guest < end; guest += this.image.geometry.clusterSize) {
      const stored = this.tryLocate(guest);
      if (typeof stored !== 'object' || !this.cache.has(stored.offset)) return false;
    }
    return true;
  }

  private withReadAhead(clusters: Stored[], first: number, end: number): Stored[] {
    const { clusterSize } = this.image.geometry;
    const sequential = first === this.expected || first + clusterSize === this.expected;
    let next = first + clusters.length * clusterSize;
    this.expected = next;
    if (!sequential && end - first < clusterSize * 2) return clusters;
    const wanted = [...clusters];
    for (let count = 0; count < this.readAhead && next < this.size(); count += 1) {
      const stored = this.tryLocate(next);
      if (typeof stored !== 'object') break;
      wanted.push(stored);
      next += clusterSize;
    }
    return wanted;
  }

  /** Where the cluster at a guest offset is stored: undefined when it is not compressed, false to load. */
  private tryLocate(guest: number): Stored | undefined | false {
    const slice = this.l2.tryFind(guest);
    if (slice === undefined) return this.l2.holeLength(guest, 1) > 0 ? undefined : false;
    const entry = this.entry.read(slice.bytes, this.l2.indexOf(guest), guest);
    if (entry.kind !== Kind.compressed) return undefined;
    const place = this.place.decode(entry.high, entry.low, this.image.geometry.compressedOffsetBits);
    if (!place.sane) {
      this.image.corrupt(
        `the compressed cluster of guest offset ${guest} is at ${place.offset}, must be below 2^53`,
      );
    }
    return { offset: place.offset, length: place.length };
  }

  private async locate(guest: number): Promise<Stored> {
    for (;;) {
      const stored = this.tryLocate(guest);
      if (stored === undefined)
        throw new BlockError('EIO', `Cannot read: the cluster at ${guest} is not compressed`);
      if (stored !== false) return stored;
      await this.image.need.load();
    }
  }

  private startMissing(wanted: readonly Stored[]): void {
    const missing = wanted.filter(({ offset }) => !this.cache.has(offset) && !this.running.has(offset));
    for (const group of mergedGroups(missing)) this.start(group);
  }

  /** Calls `take` with the content as soon as it is there; the content is not valid any longer than the call. */
  private deliver(place: number, take: Take): Promise<void> | undefined {
    const content = this.cache.get(place);
    if (content !== undefined) {
      take(content);
      return undefined;
    }
    const unpacking = this.running.get(place);
    if (unpacking === undefined)
      throw new BlockError('EIO', `Cannot read: compressed cluster ${place} is lost`);
    unpacking.takers.push(take);
    return unpacking.done;
  }

  /** What nobody waits for (read-ahead) fails silently. */
  private start(group: readonly Stored[]): void {
    const stored = this.readGroup(group);
    const base = group[0]?.offset ?? 0;
    const unpacked = group.map(({ offset, length }) => {
      const takers: Take[] = [];
      const done = stored.then(
        (bytes) => this.unpack(bytes.subarray(offset - base, offset - base + length), offset, takers),
        (error: unknown) => {
          this.ended(offset, takers);
          throw error;
        },
      );
      this.running.set(offset, { takers, done });
      return done;
    });
    void Promise.allSettled(unpacked)
      .then(() => stored)
      .then(
        (bytes) => {
          this.packed.give(bytes);
        },
        () => undefined,
      );
  }

  private async readGroup(group: readonly Stored[]): Promise<Buffer> {
    const base = group[0]?.offset ?? 0;
    const end = Math.max(...group.map(({ offset, length }) => offset + length));
    const bytes = this.packed.take(end - base);
    if (!this.image.file.tryRead(bytes, 0, bytes.length, base)) await this.image.file.read(bytes, base);
    return bytes;
  }

  private async unpack(stored: Buffer, offset: number, takers: readonly Take[]): Promise<void> {
    const room = this.cache.room();
    try {
      await this.image.unpacker.unpackInto(stored, this.job, room);
    } catch (error) {
      this.cache.giveBack(room);
      this.ended(offset, takers);
      const what = error instanceof Error ? error.message : String(error);
      const text = `Cannot read image "${this.image.subject}": the compressed cluster at ${offset} is damaged: ${what}`;
      throw new BlockError('EIO', text, {}, error);
    }
    for (const take of takers) take(room);
    // Whoever comes now finds it in the cache.
    if (this.running.get(offset)?.takers === takers) this.cache.put(offset, room);
    else this.cache.giveBack(room);
    this.ended(offset, takers);
  }

  private ended(offset: number, takers: readonly Take[]): void {
    if (this.running.get(offset)?.takers === takers) this.running.delete(offset);
  }
}

type Take = (content: Buffer) => void;

interface Unpacking {
  readonly takers: Take[];
  readonly done: Promise<void>;
}

/** Splits into groups that are each read at once: near each other in the file and not too much together. */
function mergedGroups(wanted: readonly Stored[]): Stored[][] {
  const sorted = [...wanted].sort((a, b) => a.offset - b.offset);
  const groups: Stored[][] = [];
  let end = -1;
  for (const stored of sorted) {
    const group = groups.at(-1);
    const base = group?.[0]?.offset ?? 0;
    const stop = Math.max(end, stored.offset + stored.length);
    if (group !== undefined && stored.offset <= end + MERGE_GAP && stop - base <= MERGED_READ_MAX)
      group.push(stored);
    else groups.push([stored]);
    end = stop;
  }
  return groups;
}

interface Request {
  readonly bytes: Buffer;
  readonly at: number;
  readonly length: number;
  readonly offset: number;
}

/** The part of a cluster that a request asks for. */
function copyOut(content: Buffer, guest: number, request: Request): void {
  const from = Math.max(0, request.offset - guest);
  const to = Math.min(content.length, request.offset + request.length - guest);
  content.copy(request.bytes, request.at + guest + from - request.offset, from, to);
}
