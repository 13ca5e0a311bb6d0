import { ALL_SUBCLUSTERS, Kind, L2Entry, subclusterMask, writePlace } from './l2-entry.ts';
import type { CachedTable } from './table-cache.ts';
import { discardKept, freeEntry, keepsPlace } from './write-parts.ts';
import type { WriteParts } from './write-parts.ts';

interface Part {
  readonly slice: CachedTable;
  readonly index: number;
  readonly mask: number;
}

/** Write-zeroes and discard by metadata, for images with extended L2 entries: whole subclusters, one cluster a call. */
export class ExtendedZero {
  private readonly parts: WriteParts;
  private readonly entry: L2Entry;

  constructor(parts: WriteParts) {
    this.parts = parts;
    this.entry = new L2Entry(parts.image);
  }

  /** Contract: MappingDriver.tryZero. */
  tryZero(offset: number, length: number, mayUnmap: boolean): number | false {
    const { image, l2 } = this.parts;
    if (!image.tryPrepare()) return false;
    const hole = image.hasBacking() ? 0 : l2.holeLength(offset, length);
    if (hole > 0) return hole;
    const done = this.wholeLength(offset, length);
    if (done === 0 || image.rawData) return 0;
    const part = this.tryPart(offset, done);
    if (part === undefined) return false;
    if (this.entry.kind === Kind.compressed && part.mask !== ALL_SUBCLUSTERS) return 0;
    this.zero(part, mayUnmap);
    return Math.min(length, done);
  }

  /** Contract: MappingDriver.tryDiscard. */
  tryDiscard(offset: number, length: number): number | false {
    const { image, l2 } = this.parts;
    if (!image.tryPrepare()) return false;
    const hole = l2.holeLength(offset, length);
    if (hole > 0) return hole;
    if (image.rawData) return length;
    const { subclusterSize } = image.geometry;
    const inSub = offset % subclusterSize;
    if (inSub !== 0) return Math.min(length, subclusterSize - inSub);
    const done = this.wholeLength(offset, length);
    if (done === 0) return length;
    const part = this.tryPart(offset, done);
    if (part === undefined) return false;
    if (this.entry.kind === Kind.compressed && part.mask !== ALL_SUBCLUSTERS) return Math.min(length, done);
    this.discard(part);
    return Math.min(length, done);
  }

  /** Makes a whole cluster unallocated, whatever shows through then: it is past the end of the disk. */
  tryDrop(offset: number, length: number): number | false {
    const hole = this.parts.l2.holeLength(offset, length);
    if (hole > 0) return hole;
    const { clusterSize } = this.parts.image.geometry;
    const part = this.tryPart(offset, clusterSize);
    if (part === undefined) return false;
    this.write(part, { allocated: 0, zeroes: 0, drops: true });
    return Math.min(length, clusterSize);
  }

  /** Bytes of whole subclusters from `offset` to at most the cluster's end; past the disk's end where that cuts one. */
  private wholeLength(offset: number, length: number): number {
    const { clusterSize, subclusterSize } = this.parts.image.geometry;
    if (offset % subclusterSize !== 0) return 0;
    const toEnd = offset + length === this.parts.image.size;
    const count = toEnd ? Math.ceil(length / subclusterSize) : Math.floor(length / subclusterSize);
    return Math.min(count * subclusterSize, clusterSize - (offset % clusterSize));
  }

  private tryPart(offset: number, length: number): Part | undefined {
    const { tables, l2, image } = this.parts;
    const slice = tables.tryOwn(offset);
    if (slice === undefined) return undefined;
    const { clusterSize, subclusterSize } = image.geometry;
    const inCluster = offset % clusterSize;
    const index = l2.indexOf(offset);
    this.entry.read(slice.bytes, index, offset - inCluster);
    const mask = subclusterMask(inCluster / subclusterSize, (inCluster + length) / subclusterSize);
    return { slice, index, mask };
  }

  private zero(part: Part, mayUnmap: boolean): void {
    const { entry } = this;
    const compressed = entry.kind === Kind.compressed;
    const allocated = compressed ? 0 : (entry.allocated & ~part.mask) >>> 0;
    const zeroes = compressed ? ALL_SUBCLUSTERS : (entry.zeroes | part.mask) >>> 0;
    const keeps = keepsPlace(this.parts, entry);
    if (keeps && mayUnmap && allocated === 0 && entry.allocated !== 0) discardKept(this.parts, entry);
    const drops = compressed || (allocated === 0 && ((mayUnmap && !keeps) || !entry.copied));
    this.write(part, { allocated, zeroes, drops });
  }

  private discard(part: Part): void {
    const { entry } = this;
    const compressed = entry.kind === Kind.compressed;
    const gone = compressed ? ALL_SUBCLUSTERS : (entry.allocated & part.mask) >>> 0;
    const before = compressed ? 0 : entry.zeroes;
    const zeroes = this.parts.image.hasBacking() ? (before | gone) >>> 0 : before;
    const allocated = compressed ? 0 : (entry.allocated & ~part.mask) >>> 0;
    const keeps = keepsPlace(this.parts, entry);
    if (keeps && allocated === 0 && entry.allocated !== 0) discardKept(this.parts, entry);
    this.write(part, { allocated, zeroes, drops: compressed || (allocated === 0 && !keeps) });
  }

  private write(part: Part, next: { allocated: number; zeroes: number; drops: boolean }): void {
    const { slice, index } = part;
    const at = index * 16;
    const { entry } = this;
    const hasPlace = entry.kind === Kind.data || entry.kind === Kind.compressed;
    const drops = next.drops && hasPlace;
    if (!drops && next.allocated === entry.allocated && next.zeroes === entry.zeroes) return;
    this.parts.l2.store.cache.change(slice);
    if (drops) {
      freeEntry(this.parts, entry, 'request');
      writePlace(slice.bytes, at, 0, false);
    }
    slice.bytes.writeUInt32BE(next.zeroes, at + 8);
    slice.bytes.writeUInt32BE(next.allocated, at + 12);
  }
}
