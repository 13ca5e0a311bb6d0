import { COPIED_WORD, Kind, L2Entry, ZERO_BIT } from './l2-entry.ts';
import type { CachedTable } from './table-cache.ts';
import { discardKept, freeEntry, keepsPlace } from './write-parts.ts';
import type { WriteParts } from './write-parts.ts';

/** Write-zeroes and discard by metadata, for images without subclusters: whole clusters, one L2 slice a call. */
export class StandardZero {
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
    const clusters = this.wholeClusters(offset, length);
    if (clusters === 0 || image.rawData) return 0;
    if (image.geometry.version < 3 && (image.hasBacking() || !mayUnmap)) return 0;
    return this.tryEach(offset, clusters, length, (entry) => this.zeroed(entry, mayUnmap));
  }

  /** Contract: MappingDriver.tryDiscard. What can't be made to read as zeroes for lack of a zero flag stays. */
  tryDiscard(offset: number, length: number): number | false {
    const { image, l2 } = this.parts;
    if (!image.tryPrepare()) return false;
    const hole = l2.holeLength(offset, length);
    if (hole > 0) return hole;
    if (image.rawData || (image.geometry.version < 3 && image.hasBacking())) return length;
    const { clusterSize } = image.geometry;
    const inCluster = offset % clusterSize;
    if (inCluster !== 0) return Math.min(length, clusterSize - inCluster);
    const clusters = this.wholeClusters(offset, length);
    if (clusters === 0) return length;
    return this.tryEach(offset, clusters, length, (entry) => this.discarded(entry));
  }

  /** Makes whole clusters unallocated, whatever shows through then: they are past the end of the disk. */
  tryDrop(offset: number, length: number): number | false {
    const hole = this.parts.l2.holeLength(offset, length);
    if (hole > 0) return hole;
    const clusters = Math.ceil(length / this.parts.image.geometry.clusterSize);
    return this.tryEach(offset, clusters, length, (entry) =>
      entry.kind === Kind.unallocated ? KEEP : EMPTY,
    );
  }

  /** Clusters from `offset` on that the range covers wholly; the last of the disk may reach past its end. */
  private wholeClusters(offset: number, length: number): number {
    const { clusterSize } = this.parts.image.geometry;
    if (offset % clusterSize !== 0) return 0;
    const toEnd = offset + length === this.parts.image.size;
    return toEnd ? Math.ceil(length / clusterSize) : Math.floor(length / clusterSize);
  }

  private tryEach(
    offset: number,
    clusters: number,
    length: number,
    next: (entry: L2Entry) => number,
  ): number | false {
    const { tables, l2, image } = this.parts;
    const slice = tables.tryOwn(offset);
    if (slice === undefined) return false;
    const { clusterSize, sliceEntries } = image.geometry;
    const index = l2.indexOf(offset);
    const count = Math.min(clusters, sliceEntries - index);
    for (let done = 0; done < count; done += 1) {
      const entry = this.entry.read(slice.bytes, index + done, offset + done * clusterSize);
      this.change(slice, index + done, next(entry));
    }
    return Math.min(length, count * clusterSize);
  }

  private change(slice: CachedTable, index: number, how: number): void {
    if (how === KEEP) return;
    this.parts.l2.store.cache.change(slice);
    if (how === RESERVE || how === VACATE) {
      if (how === VACATE) discardKept(this.parts, this.entry);
      slice.bytes.writeUInt32BE((this.entry.low | ZERO_BIT) >>> 0, index * 8 + 4);
      return;
    }
    freeEntry(this.parts, this.entry, 'request');
    slice.bytes.writeUInt32BE(0, index * 8);
    slice.bytes.writeUInt32BE(how === ZERO ? ZERO_BIT : 0, index * 8 + 4);
  }

  private zeroed(entry: L2Entry, mayUnmap: boolean): number {
    if (entry.kind === Kind.zero) return KEEP;
    if (entry.kind === Kind.unallocated) return this.parts.image.hasBacking() ? ZERO : KEEP;
    const keeps = keepsPlace(this.parts, entry);
    if (entry.kind === Kind.reserved && (!mayUnmap || keeps)) return KEEP;
    if (keeps && mayUnmap) return VACATE;
    if (entry.kind === Kind.data && !mayUnmap && entry.high >= COPIED_WORD) return RESERVE;
    return this.blank();
  }

  private discarded(entry: L2Entry): number {
    if (this.isEmpty(entry)) return KEEP;
    if (!keepsPlace(this.parts, entry)) return this.blank();
    return entry.kind === Kind.reserved ? KEEP : VACATE;
  }

  /** What an entry becomes that gives up its place. */
  private blank(): number {
    const { image } = this.parts;
    return image.geometry.version >= 3 && image.hasBacking() ? ZERO : EMPTY;
  }

  private isEmpty(entry: L2Entry): boolean {
    return entry.kind === Kind.unallocated || entry.kind === Kind.zero;
  }
}

const KEEP = 0;
/** Reads as zeroes, keeps its place. */
const RESERVE = 1;
/** Reads as zeroes, has no place. */
const ZERO = 2;
const EMPTY = 3;
/** Reads as zeroes, keeps its place, which holds nothing of worth. */
const VACATE = 4;
