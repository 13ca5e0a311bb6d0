import type { Image } from './image.ts';
import { hostOffset, isCompressed, isCopied } from './l2-entry.ts';
import type { MetadataClusters } from './metadata-clusters.ts';

/**
 * Looks at each part of an L2 table that comes in: an entry that may be written in place must not name a table. Reading goes
 * on where one does; nothing is written any more.
 */
export function dataOverlaps(image: Image, metadata: MetadataClusters): (bytes: Buffer) => void {
  const { entrySize, clusterSize } = image.geometry;
  return (bytes) => {
    if (image.broken || image.external || !metadata.isOn) return;
    for (let at = 0; at < bytes.length; at += entrySize) {
      const high = bytes.readUInt32BE(at);
      if (!isCopied(high) || isCompressed(high)) continue;
      const cluster = hostOffset(high, bytes.readUInt32BE(at + 4)) / clusterSize;
      const what = metadata.whatIs(cluster);
      if (what === undefined) continue;
      image.noteDamage(`an L2 entry names cluster ${cluster}, which holds ${what}`);
      return;
    }
  };
}
