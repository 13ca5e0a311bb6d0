import type { Extent } from '../../../src/block/extent.ts';
import type { Image } from './image.ts';
import { isCompressed, Kind, L2Entry } from './l2-entry.ts';
import type { L2Cache } from './l2-cache.ts';
import type { MetadataClusters } from './metadata-clusters.ts';

/** Guest offset -> extent, for images without subclusters. Neighbours within one L2 slice make one extent. */
export class StandardMap {
  private readonly image: Image;
  private readonly l2: L2Cache;
  private readonly entry: L2Entry;
  private readonly metadata: MetadataClusters | undefined;

  /** @param metadata of an image that is written to */
  constructor(image: Image, l2: L2Cache, metadata?: MetadataClusters) {
    this.image = image;
    this.l2 = l2;
    this.metadata = metadata;
    this.entry = new L2Entry(image);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const slice = this.l2.tryFind(offset);
    if (slice === undefined) return this.l2.tryHole(offset, max, out);
    const { clusterSize, sliceSpan, sliceEntries } = this.image.geometry;
    const inCluster = offset % clusterSize;
    const index = Math.floor((offset % sliceSpan) / clusterSize);
    const entry = this.entry.read(slice.bytes, index, offset - inCluster);
    const wanted = Math.min(sliceEntries - index, Math.ceil((inCluster + max) / clusterSize));
    const clusters = wanted === 1 ? 1 : this.run(slice.bytes, index, wanted);
    const length = Math.min(max, clusters * clusterSize - inCluster);
    switch (entry.kind) {
      case Kind.data:
        return out.setData(
          this.image.data,
          entry.offset + inCluster,
          length,
          entry.copied && this.mayWrite(entry.offset / clusterSize, clusters),
        );
      case Kind.reserved:
        return out.setZero(length, true, this.image.data, entry.offset + inCluster);
      case Kind.zero:
        return out.setZero(length);
      case Kind.compressed:
        return out.setOpaque(length, true);
      case Kind.unallocated:
        return out.setUnallocated(length);
    }
  }

  private mayWrite(first: number, clusters: number): boolean {
    const { prepared, external } = this.image;
    return prepared && (external || this.metadata?.mayHoldData(first, clusters) !== false);
  }

  /** How many clusters from `index` on continue what the entry there begins. */
  private run(bytes: Buffer, index: number, wanted: number): number {
    const { kind, high, low } = this.entry;
    const step = kind === Kind.data || kind === Kind.reserved ? this.image.geometry.clusterSize : 0;
    let count = 1;
    if (kind === Kind.compressed) {
      while (count < wanted && isCompressed(bytes.readUInt32BE((index + count) * 8))) count += 1;
      return count;
    }
    for (; count < wanted; count += 1) {
      const at = (index + count) * 8;
      if (bytes.readUInt32BE(at) !== high || bytes.readUInt32BE(at + 4) !== low + count * step) break;
    }
    return count;
  }
}
