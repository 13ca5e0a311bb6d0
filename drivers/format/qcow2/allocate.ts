import type { Placement } from '../../../src/block/extent.ts';
import { Claim } from './claim.ts';
import { isCompressed, isCopied, Kind, L2Entry, writePlace } from './l2-entry.ts';
import type { CachedTable } from './table-cache.ts';
import { freeEntry } from './write-parts.ts';
import type { WriteParts } from './write-parts.ts';

/** Places for writes, for images without subclusters. A place is whole clusters within one L2 slice. */
export class StandardAllocate {
  private readonly parts: WriteParts;
  private readonly entry: L2Entry;

  constructor(parts: WriteParts) {
    this.parts = parts;
    this.entry = new L2Entry(parts.image);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { image, tables, l2 } = this.parts;
    if (!image.tryPrepare()) return false;
    const slice = tables.tryOwn(offset);
    if (slice === undefined) return false;
    const { clusterSize, sliceEntries } = image.geometry;
    const inCluster = offset % clusterSize;
    const index = l2.indexOf(offset);
    const wanted = Math.min(sliceEntries - index, Math.ceil((inCluster + length) / clusterSize));
    out.start = offset - inCluster;
    out.child = image.data;
    const entry = this.entry.read(slice.bytes, index, out.start);
    const placed = entry.kind === Kind.data || entry.kind === Kind.reserved;
    if (placed && entry.copied) return this.reuse(slice, this.sameRun(slice.bytes, index, wanted), out);
    const run = this.newRun(slice.bytes, index, wanted);
    return image.external ? this.takeFixed(slice, run, out) : this.takeNew(slice, run, out);
  }

  commit(place: Placement): void {
    const claim = place.token;
    if (!(claim instanceof Claim)) return;
    const { image, l2 } = this.parts;
    const { clusterSize } = image.geometry;
    const { slice } = claim;
    const first = l2.indexOf(place.start);
    l2.store.cache.change(slice);
    for (let done = 0; done < place.length; done += clusterSize) {
      const index = first + done / clusterSize;
      if (claim.fresh)
        freeEntry(this.parts, this.entry.read(slice.bytes, index, place.start + done), 'other');
      writePlace(slice.bytes, index * 8, place.offset + done, true);
    }
    claim.release();
    place.token = undefined;
  }

  abort(place: Placement): void {
    abortPlace(this.parts, place);
  }

  /** The clusters that the entries name already and that nobody else uses. */
  private reuse(slice: CachedTable, clusters: number, out: Placement): boolean {
    if (!this.tryCancelDiscards(this.entry.offset, clusters)) return false;
    out.offset = this.entry.offset;
    out.length = clusters * this.parts.image.geometry.clusterSize;
    out.zeroed = false;
    out.token = new Claim(slice, false);
    return true;
  }

  private takeFixed(slice: CachedTable, clusters: number, out: Placement): boolean {
    if (!this.tryCancelDiscards(out.start, clusters)) return false;
    out.offset = out.start;
    out.length = clusters * this.parts.image.geometry.clusterSize;
    out.zeroed = out.start >= this.parts.image.data.size;
    out.token = new Claim(slice, this.entry.kind === Kind.compressed);
    return true;
  }

  private takeNew(slice: CachedTable, clusters: number, out: Placement): boolean {
    const { allocator, image } = this.parts;
    const { clusterSize } = image.geometry;
    const first = allocator.tryTake(clusters);
    if (first === false) return false;
    out.offset = first * clusterSize;
    out.length = allocator.taken * clusterSize;
    out.zeroed = allocator.isFresh(out.offset);
    out.token = new Claim(slice, true);
    return true;
  }

  /** @param start offset in the file that holds the data */
  private tryCancelDiscards(start: number, clusters: number): boolean {
    const { image, dataDiscards, keepsPlaces } = this.parts;
    if (!image.external && !keepsPlaces) return true;
    const first = start / image.geometry.clusterSize;
    for (let cluster = first; cluster < first + clusters; cluster += 1) {
      if (!dataDiscards.tryCancel(cluster)) return false;
    }
    return true;
  }

  /** Neighbours that continue the entry read last, place by place. */
  private sameRun(bytes: Buffer, index: number, wanted: number): number {
    const { high, low } = this.entry;
    const { clusterSize } = this.parts.image.geometry;
    let count = 1;
    for (; count < wanted; count += 1) {
      const at = (index + count) * 8;
      if (bytes.readUInt32BE(at) !== high || bytes.readUInt32BE(at + 4) !== low + count * clusterSize) break;
    }
    return count;
  }

  /** Neighbours that need a new place as well. */
  private newRun(bytes: Buffer, index: number, wanted: number): number {
    let count = 1;
    for (; count < wanted; count += 1) {
      const high = bytes.readUInt32BE((index + count) * 8);
      if (isCopied(high) && !isCompressed(high)) break;
    }
    return count;
  }
}

/** Gives back what a placement took. */
export function abortPlace(parts: WriteParts, place: Placement): void {
  const claim = place.token;
  if (!(claim instanceof Claim)) return;
  const { image, allocator, frees } = parts;
  claim.release();
  place.token = undefined;
  if (!claim.fresh || image.external) return;
  const { clusterSize } = image.geometry;
  const first = Math.floor(place.offset / clusterSize);
  const count = Math.ceil((place.offset + place.length) / clusterSize) - first;
  if (image.file.size > place.offset) allocator.mayBeWritten(place.offset + place.length);
  const done = allocator.giveBack(first, count);
  if (done < count) frees.add(first + done, count - done, 'other');
}
