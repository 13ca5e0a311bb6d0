import { allocatedSize } from '../../../src/block/storage.ts';
import type { Image } from './image.ts';

/**
 * Whether the file with the guest's clusters has so many holes that asking it for each range pays: it takes a tenth, and
 * two clusters, less room than it is long.
 */
export function storedSparsely({ data, geometry }: Pick<Image, 'data' | 'geometry'>): boolean {
  const allocated = allocatedSize(data.node);
  if (allocated === undefined) return false;
  return data.size >= Math.max(allocated / 0.9, allocated + 2 * geometry.clusterSize);
}
