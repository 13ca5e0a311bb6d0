import { CompressedPlace } from '../compressed-place.ts';
import { hostOffset, isCompressed } from '../l2-entry.ts';
import { STANDARD_RESERVED_HIGH, STANDARD_RESERVED_LOW } from './count-l2.ts';
import type { References } from './references.ts';

/** Whether a cluster may be an L2 table: it names something, and nothing that it can't name. */
export async function looksLikeL2(references: References, cluster: number): Promise<boolean> {
  const { image } = references;
  const { clusterSize, entrySize, compressedOffsetBits } = image.geometry;
  const bytes = Buffer.alloc(clusterSize);
  await image.file.read(bytes, cluster * clusterSize);
  const place = new CompressedPlace();
  let entries = 0;
  for (let at = 0; at < clusterSize; at += entrySize) {
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    if (high === 0 && low === 0) continue;
    entries += 1;
    if (isCompressed(high)) {
      place.decode(high, low, compressedOffsetBits);
      if (!place.sane || !references.isInFile(place.offset)) return false;
      continue;
    }
    if ((high & STANDARD_RESERVED_HIGH) !== 0 || (low & STANDARD_RESERVED_LOW) !== 0) return false;
    const offset = hostOffset(high, low);
    if (offset % clusterSize !== 0) return false;
    if (!image.external && (!references.isInFile(offset) || isTable(references, offset / clusterSize)))
      return false;
  }
  return entries > 0;
}

function isTable(references: References, cluster: number): boolean {
  return cluster !== 0 && references.tableAt(cluster) !== undefined;
}
