/**
 * Compressed clusters lie in host clusters back to back, each of which counts those that touch it:
 *
 *     | A | B |  C  :  C | D | room |        refcounts 3 and 2
 *                                ^ next
 *
 * The room is used while nobody frees any part of its cluster: from then on the cluster may be punched or given out.
 */
import { BlockError } from '../../../src/block/errors.ts';
import { CompressedPlace } from './compressed-place.ts';
import type { CompressedReader } from './compressed.ts';
import { deflateCluster, zstdCluster } from './compress.ts';
import type { Compress } from './compress.ts';
import { L2Entry } from './l2-entry.ts';
import { refcountMax } from './refcount-entry.ts';
import type { Refcounts } from './refcounts.ts';
import { freeEntry } from './write-parts.ts';
import type { WriteParts } from './write-parts.ts';

export interface CompressedWriteParts extends WriteParts {
  readonly refcounts: Refcounts;
  readonly compressed: CompressedReader;
}

export class CompressedWriter {
  private readonly parts: CompressedWriteParts;
  private readonly entry: L2Entry;
  private readonly compress: Compress;
  /** Where the room in the cluster `frees.shared` begins. */
  private next = 0;

  constructor(parts: CompressedWriteParts) {
    this.parts = parts;
    this.entry = new L2Entry(parts.image);
    this.compress = parts.image.header.fields.compression_type === 1 ? zstdCluster : deflateCluster;
  }

  /** Contract: MappingDriver.writeCompressed. */
  async write(bytes: Buffer, offset: number): Promise<boolean> {
    const { image } = this.parts;
    if (image.external) {
      const what = 'compressed clusters and an external data file exclude each other';
      throw new BlockError('ENOTSUP', `Cannot write compressed to image "${image.subject}": ${what}`);
    }
    const { clusterSize } = image.geometry;
    if (image.header.fields.crypt_method !== 0) return false;
    const stored = await this.compress(bytes.length === clusterSize ? bytes : padded(bytes, clusterSize));
    if (stored.length >= clusterSize) return false;
    await this.store(stored, offset);
    return true;
  }

  private async store(stored: Buffer, offset: number): Promise<void> {
    const { image } = this.parts;
    let place = this.tryReserve(stored.length);
    while (place < 0) {
      await image.need.load();
      place = this.tryReserve(stored.length);
    }
    try {
      await image.file.write(stored, place);
      const named = { offset: place, length: stored.length };
      while (!this.tryCommit(offset, named)) await image.need.load();
    } catch (error) {
      this.giveBack(place, stored.length);
      throw error;
    }
  }

  /** Names and counts a place; -1 to load. */
  private tryReserve(length: number): number {
    const { image, frees, refcounts, allocator } = this.parts;
    const { clusterSize, refcountBits } = image.geometry;
    if (!image.tryPrepare()) return -1;
    const { shared } = frees;
    const count = shared < 0 ? 0 : refcounts.tryRead(shared);
    if (count < 0) return -1;
    const usable = count > 0 && count < refcountMax(refcountBits);
    const room = usable ? (shared + 1) * clusterSize - this.next : 0;
    const fresh = length <= room ? -1 : allocator.tryTake(1);
    if (fresh === false) return -1;
    const place = fresh < 0 || (room > 0 && fresh === shared + 1) ? this.next : fresh * clusterSize;
    // Its page was read in this turn, so it is in memory.
    if (place === this.next && usable && room > 0) refcounts.trySet(shared, count + 1);
    if (fresh >= 0) frees.shared = fresh;
    this.next = place + length;
    return place;
  }

  private tryCommit(offset: number, place: { offset: number; length: number }): boolean {
    const { image, tables, l2, compressed } = this.parts;
    const { entrySize, compressedOffsetBits } = image.geometry;
    const slice = tables.tryOwn(offset);
    if (slice === undefined) return false;
    const index = l2.indexOf(offset);
    l2.store.cache.change(slice);
    freeEntry(this.parts, this.entry.read(slice.bytes, index, offset), 'other');
    compressed.forget(place.offset);
    const at = index * entrySize;
    CompressedPlace.encode(slice.bytes, at, place, compressedOffsetBits);
    slice.bytes.fill(0, at + 8, at + entrySize);
    return true;
  }

  private giveBack(place: number, length: number): void {
    const { image, frees, allocator } = this.parts;
    const { clusterSize } = image.geometry;
    frees.shared = -1;
    if (image.file.size > place) allocator.mayBeWritten(place + length);
    const last = Math.floor((place + length - 1) / clusterSize);
    for (let cluster = Math.floor(place / clusterSize); cluster <= last; cluster += 1) {
      if (allocator.giveBack(cluster, 1) === 0) frees.add(cluster, 1, 'other');
    }
  }
}

function padded(bytes: Buffer, length: number): Buffer {
  const whole = Buffer.alloc(length);
  bytes.copy(whole);
  return whole;
}
