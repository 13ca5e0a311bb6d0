import type { Extent } from '../../../src/block/extent.ts';
import type { Image } from './image.ts';
import { Kind, L2Entry, SUBCLUSTERS } from './l2-entry.ts';
import type { L2Cache } from './l2-cache.ts';
import type { MetadataClusters } from './metadata-clusters.ts';

/** What a subcluster is, beside compressed clusters, which have none. */
const State = { unallocated: 0, data: 1, zero: 2 } as const;
type State = (typeof State)[keyof typeof State];

/** Guest offset -> extent, for images with extended L2 entries. */
export class ExtendedMap {
  private readonly image: Image;
  private readonly l2: L2Cache;
  private readonly entry: L2Entry;
  private readonly next: L2Entry;
  private readonly metadata: MetadataClusters | undefined;

  /** @param metadata of an image that is written to */
  constructor(image: Image, l2: L2Cache, metadata?: MetadataClusters) {
    this.image = image;
    this.l2 = l2;
    this.metadata = metadata;
    this.entry = new L2Entry(image);
    this.next = new L2Entry(image);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    const slice = this.l2.tryFind(offset);
    if (slice === undefined) return this.l2.tryHole(offset, max, out);
    const { clusterSize, subclusterSize } = this.image.geometry;
    const inCluster = offset % clusterSize;
    const index = this.l2.indexOf(offset);
    const entry = this.entry.read(slice.bytes, index, offset - inCluster);
    const wanted = inCluster + max;
    if (entry.kind === Kind.compressed) {
      const clusters = this.compressedRun(
        slice.bytes,
        index,
        Math.ceil(wanted / clusterSize),
        offset - inCluster,
      );
      return out.setOpaque(Math.min(max, clusters * clusterSize - inCluster), true);
    }
    const sub = Math.floor(inCluster / subclusterSize);
    const state = stateOf(entry, sub);
    const run = this.run(slice.bytes, { index, sub, state, wanted, guest: offset - inCluster });
    const length = Math.min(max, run - inCluster);
    if (state === State.unallocated) return out.setUnallocated(length);
    const place = entry.offset + inCluster;
    if (state === State.data)
      return out.setData(this.image.data, place, length, entry.copied && this.mayWrite(place, length));
    return entry.kind === Kind.data ? out.setZero(length, true, this.image.data, place) : out.setZero(length);
  }

  private mayWrite(place: number, length: number): boolean {
    const { prepared, external, geometry } = this.image;
    if (!prepared || external || this.metadata === undefined) return prepared;
    const first = Math.floor(place / geometry.clusterSize);
    const end = Math.ceil((place + length) / geometry.clusterSize);
    return this.metadata.mayHoldData(first, end - first);
  }

  /** Bytes from the cluster's start to the end of the run of equal subclusters that goes on at `sub`. */
  private run(
    bytes: Buffer,
    from: { index: number; sub: number; state: State; wanted: number; guest: number },
  ): number {
    const { clusterSize, subclusterSize, sliceEntries } = this.image.geometry;
    let end = runEnd(this.entry, from.sub, from.state);
    let length = end * subclusterSize;
    for (
      let step = 1;
      end === SUBCLUSTERS && length < from.wanted && from.index + step < sliceEntries;
      step += 1
    ) {
      const next = this.next.read(bytes, from.index + step, from.guest + step * clusterSize);
      if (!this.continues(next, step, from.state)) break;
      end = runEnd(next, 0, from.state);
      length += end * subclusterSize;
    }
    return length;
  }

  private continues(next: L2Entry, step: number, state: State): boolean {
    if (next.kind === Kind.compressed || stateOf(next, 0) !== state) return false;
    if (state === State.unallocated) return true;
    const { entry } = this;
    if (next.kind !== entry.kind || next.copied !== entry.copied) return false;
    return entry.kind !== Kind.data || next.offset === entry.offset + step * this.image.geometry.clusterSize;
  }

  private compressedRun(bytes: Buffer, index: number, wanted: number, guest: number): number {
    const { sliceEntries, clusterSize } = this.image.geometry;
    const limit = Math.min(wanted, sliceEntries - index);
    let count = 1;
    while (
      count < limit &&
      this.next.read(bytes, index + count, guest + count * clusterSize).kind === Kind.compressed
    ) {
      count += 1;
    }
    return count;
  }
}

function stateOf(entry: L2Entry, sub: number): State {
  if (((entry.allocated >>> sub) & 1) === 1) return State.data;
  return ((entry.zeroes >>> sub) & 1) === 1 ? State.zero : State.unallocated;
}

/** First subcluster behind `sub` that is something else, 32 if none is. */
function runEnd(entry: L2Entry, sub: number, state: State): number {
  let end = sub;
  while (end < SUBCLUSTERS && stateOf(entry, end) === state) end += 1;
  return end;
}
