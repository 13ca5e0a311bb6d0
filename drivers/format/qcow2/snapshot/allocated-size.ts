import type { Image } from '../image.ts';
import { hostOffset, OFFSET_HIGH } from '../l2-entry.ts';
import type { Snapshot } from '../snapshots.ts';
import { readSnapshotL1 } from './view.ts';

/** With more L2 tables than this the size is estimated. */
const TABLES_MAX = 4096;

/** How much of the disk snapshots have allocated. Tables that several share are counted once. */
export class AllocatedSizes {
  /** Clusters by the offset of an L2 table. */
  private readonly counted = new Map<number, number>();

  /** Some tables may have become others. */
  forget(): void {
    this.counted.clear();
  }

  async of(image: Image, snapshot: Snapshot): Promise<number> {
    const { clusterSize, tableSpan } = image.geometry;
    const { diskSize } = snapshot;
    const l1 = await readSnapshotL1(image, snapshot);
    const end = Math.ceil(diskSize / tableSpan) * 8;
    const tables: number[] = [];
    for (let at = 0; at < end; at += 8) {
      const offset = hostOffset(l1.readUInt32BE(at), l1.readUInt32BE(at + 4));
      if (offset !== 0) tables.push(offset);
    }
    if (tables.length > TABLES_MAX) return Math.min(diskSize, tables.length * tableSpan);
    let clusters = 0;
    for (const offset of tables) clusters += await this.countTable(image, offset);
    return Math.min(diskSize, clusters * clusterSize);
  }

  private async countTable(image: Image, offset: number): Promise<number> {
    const known = this.counted.get(offset);
    if (known !== undefined) return known;
    const { clusterSize, entrySize } = image.geometry;
    const bytes = Buffer.allocUnsafe(clusterSize);
    await image.file.read(bytes, offset);
    let clusters = 0;
    for (let at = 0; at < clusterSize; at += entrySize) {
      const compressedOrHigh = bytes.readUInt32BE(at) & (OFFSET_HIGH | 0x40000000);
      if (compressedOrHigh !== 0 || (bytes.readUInt32BE(at + 4) & ~511) !== 0) clusters += 1;
    }
    this.counted.set(offset, clusters);
    return clusters;
  }
}
