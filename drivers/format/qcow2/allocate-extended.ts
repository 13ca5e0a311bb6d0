import type { Placement } from '../../../src/block/extent.ts';
import { abortPlace } from './allocate.ts';
import { Claim } from './claim.ts';
import { Kind, L2Entry, subclusterMask, writePlace } from './l2-entry.ts';
import type { CachedTable } from './table-cache.ts';
import { freeEntry } from './write-parts.ts';
import type { WriteParts } from './write-parts.ts';

/**
 * Places for writes, for images with extended L2 entries. Only the subclusters that the request touches are filled, but
 * for clusters whose present content lies elsewhere (compressed, shared with a snapshot): those move as a whole.
 */
export class ExtendedAllocate {
  private readonly parts: WriteParts;
  private readonly entry: L2Entry;
  private readonly next: L2Entry;

  constructor(parts: WriteParts) {
    this.parts = parts;
    this.entry = new L2Entry(parts.image);
    this.next = new L2Entry(parts.image);
  }

  tryAllocate(offset: number, length: number, out: Placement): boolean {
    const { image, tables, l2 } = this.parts;
    if (!image.tryPrepare()) return false;
    const slice = tables.tryOwn(offset);
    if (slice === undefined) return false;
    const { clusterSize } = image.geometry;
    const inCluster = offset % clusterSize;
    const index = l2.indexOf(offset);
    const entry = this.entry.read(slice.bytes, index, offset - inCluster);
    out.child = image.data;
    if (entry.kind === Kind.data && entry.copied) return this.within(slice, offset, length, out);
    if (image.external) return this.within(slice, offset, length, out);
    return movesWhole(entry) ? this.takeWhole(slice, offset, out) : this.takeNew(slice, offset, length, out);
  }

  commit(place: Placement): void {
    this.point(place, true);
  }

  /** The entries name the place, but nothing of it counts as written: what lies below shows through. */
  reserve(place: Placement): void {
    this.point(place, false);
  }

  abort(place: Placement): void {
    abortPlace(this.parts, place);
  }

  private point(place: Placement, isFilled: boolean): void {
    const claim = place.token;
    if (!(claim instanceof Claim)) return;
    const { clusterSize } = this.parts.image.geometry;
    this.parts.l2.store.cache.change(claim.slice);
    const end = place.start + place.length;
    for (let at = place.start; at < end;) {
      const cluster = at - (at % clusterSize);
      const stop = Math.min(end, cluster + clusterSize);
      this.commitCluster(
        claim,
        { cluster, from: at - cluster, to: isFilled ? stop - cluster : at - cluster },
        place.offset + cluster - place.start,
      );
      at = stop;
    }
    claim.release();
    place.token = undefined;
  }

  /** @param host offset of the whole cluster in the file */
  private commitCluster(
    claim: Claim,
    part: { cluster: number; from: number; to: number },
    host: number,
  ): void {
    const { l2, image } = this.parts;
    const { subclusterSize } = image.geometry;
    const { bytes } = claim.slice;
    const index = l2.indexOf(part.cluster);
    const entry = this.entry.read(bytes, index, part.cluster);
    const mask = subclusterMask(part.from / subclusterSize, part.to / subclusterSize);
    if (claim.fresh) freeEntry(this.parts, entry, 'other');
    const kept = claim.fresh || entry.kind === Kind.compressed ? 0 : entry.allocated;
    const zeroes = entry.kind === Kind.compressed ? 0 : entry.zeroes;
    writePlace(bytes, index * 16, host, true);
    bytes.writeUInt32BE((zeroes & ~mask) >>> 0, index * 16 + 8);
    bytes.writeUInt32BE((kept | mask) >>> 0, index * 16 + 12);
  }

  /** Subclusters of the cluster that the entry names already, or of the data file, where places are fixed. */
  private within(slice: CachedTable, offset: number, length: number, out: Placement): boolean {
    const { image, dataDiscards, keepsPlaces } = this.parts;
    const { clusterSize, subclusterSize } = image.geometry;
    const cluster = offset - (offset % clusterSize);
    const host = image.external ? cluster : this.entry.offset;
    if ((image.external || keepsPlaces) && !dataDiscards.tryCancel(host / clusterSize)) return false;
    const end = Math.min(offset + length, cluster + clusterSize);
    out.start = offset - (offset % subclusterSize);
    out.length = Math.ceil((end - out.start) / subclusterSize) * subclusterSize;
    out.offset = host + out.start - cluster;
    out.zeroed = image.external && out.offset >= image.data.size;
    out.token = new Claim(slice, false);
    return true;
  }

  private takeWhole(slice: CachedTable, offset: number, out: Placement): boolean {
    const { clusterSize } = this.parts.image.geometry;
    out.start = offset - (offset % clusterSize);
    out.length = clusterSize;
    return this.take(slice, 1, out);
  }

  private takeNew(slice: CachedTable, offset: number, length: number, out: Placement): boolean {
    const { clusterSize, subclusterSize } = this.parts.image.geometry;
    const cluster = offset - (offset % clusterSize);
    const wanted = Math.ceil((offset + length - cluster) / clusterSize);
    out.start = offset - (offset % subclusterSize);
    out.length = Math.ceil((offset + length - out.start) / subclusterSize) * subclusterSize;
    return this.take(slice, this.newRun(slice, cluster, wanted), out);
  }

  /** Takes up to `clusters`, and cuts the place to what they hold. */
  private take(slice: CachedTable, clusters: number, out: Placement): boolean {
    const { allocator, image } = this.parts;
    const { clusterSize } = image.geometry;
    const first = allocator.tryTake(clusters);
    if (first === false) return false;
    const inCluster = out.start % clusterSize;
    out.length = Math.min(out.length, allocator.taken * clusterSize - inCluster);
    out.offset = first * clusterSize + inCluster;
    out.zeroed = allocator.isFresh(first * clusterSize);
    out.token = new Claim(slice, true);
    return true;
  }

  /** Neighbouring clusters that need a new place, and of which only what the request touches has to be filled. */
  private newRun(slice: CachedTable, cluster: number, wanted: number): number {
    const { image, l2 } = this.parts;
    const { clusterSize, sliceEntries } = image.geometry;
    const index = l2.indexOf(cluster);
    const limit = Math.min(wanted, sliceEntries - index);
    let count = 1;
    for (; count < limit; count += 1) {
      const next = this.next.read(slice.bytes, index + count, cluster + count * clusterSize);
      if ((next.kind === Kind.data && next.copied) || movesWhole(next)) break;
    }
    return count;
  }
}

/** Some of the cluster's present content would be lost if only a part of a new place were filled. */
function movesWhole(entry: L2Entry): boolean {
  return entry.kind === Kind.compressed || (entry.kind === Kind.data && entry.allocated !== 0);
}
