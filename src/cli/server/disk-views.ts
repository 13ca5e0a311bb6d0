import type { Directory, DirectoryItem, DirectorySource } from '../../../mount/tree.ts';
import type { BitmapFolder } from './bitmaps.ts';
import type { PartitionFolder } from './partitions.ts';
import type { SnapshotFolder } from './snapshots.ts';

/** The folders that are shown beside a disk. */
export class DiskViews implements DirectorySource {
  readonly partitions: PartitionFolder;
  readonly snapshots: SnapshotFolder;
  readonly bitmaps: BitmapFolder;

  constructor(folders: Pick<DiskViews, 'partitions' | 'snapshots' | 'bitmaps'>) {
    this.partitions = folders.partitions;
    this.snapshots = folders.snapshots;
    this.bitmaps = folders.bitmaps;
  }

  async lookup(name: string): Promise<Directory | undefined> {
    for (const folder of [this.partitions, this.snapshots, this.bitmaps]) {
      const found = await folder.lookup(name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  async list(): Promise<readonly DirectoryItem[]> {
    const lists = [this.partitions.list(), this.snapshots.list(), this.bitmaps.list()];
    return (await Promise.all(lists)).flat();
  }

  /** Nobody can reach them any more. Rejects with the first error. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([this.partitions.close(), this.snapshots.close()]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
}
