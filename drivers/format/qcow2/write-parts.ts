import type { Allocator } from './allocator.ts';
import type { DataDiscards } from './data-discards.ts';
import { CompressedPlace } from './compressed-place.ts';
import type { FreeReason, Frees } from './frees.ts';
import type { Image } from './image.ts';
import { Kind } from './l2-entry.ts';
import type { L2Entry } from './l2-entry.ts';
import type { L2Cache } from './l2-cache.ts';
import type { L2Tables } from './l2-tables.ts';

/** What the writing side of an image works with. */
export interface WriteParts {
  readonly image: Image;
  readonly l2: L2Cache;
  readonly tables: L2Tables;
  readonly allocator: Allocator;
  readonly frees: Frees;
  readonly dataDiscards: DataDiscards;
  /** Discarded clusters keep their places (discard-no-unref). */
  readonly keepsPlaces: boolean;
}

/** Whether the entry keeps its place when what it holds is discarded: a place that others have too is given up. */
export function keepsPlace({ keepsPlaces, image }: WriteParts, entry: L2Entry): boolean {
  if (!keepsPlaces || image.external || !entry.copied) return false;
  return entry.kind === Kind.data || entry.kind === Kind.reserved;
}

/** A place that was kept has nothing of worth in it any more. */
export function discardKept({ frees, dataDiscards, image }: WriteParts, entry: L2Entry): void {
  if (frees.policies.request) dataDiscards.add(entry.offset / image.geometry.clusterSize);
}

const place = new CompressedPlace();

/** An entry that was just taken out of its slice names its clusters no more. */
export function freeEntry(parts: WriteParts, entry: L2Entry, reason: FreeReason): void {
  const { image, frees, dataDiscards } = parts;
  const { clusterSize, compressedOffsetBits } = image.geometry;
  if (entry.kind === Kind.data || entry.kind === Kind.reserved) {
    const cluster = entry.offset / clusterSize;
    if (!image.external) frees.add(cluster, 1, reason);
    else if (frees.policies[reason]) dataDiscards.add(cluster);
  } else if (entry.kind === Kind.compressed) {
    place.decode(entry.high, entry.low, compressedOffsetBits);
    if (!place.sane) image.corrupt(`a compressed cluster is at ${place.offset}, must be below 2^53`);
    const first = Math.floor(place.offset / clusterSize);
    const last = Math.floor((place.offset + place.length - 1) / clusterSize);
    frees.add(first, last - first + 1, reason);
  }
}
