import type { Directory, DirectoryItem, DirectorySource } from '../../../mount/tree.ts';
import type { PartitionFolder } from './partitions.ts';
import type { SnapshotFolder } from './snapshots.ts';

/** The folders that are shown beside a disk. */
export class DiskViews implements DirectorySource {
  readonly partitions: PartitionFolder;
  readonly snapshots: SnapshotFolder;

  constructor(folders: { readonly partitions: PartitionFolder; readonly snapshots: SnapshotFolder }) {
    this.partitions = folders.partitions;
    this.snapshots = folders.snapshots;
  }

  async lookup(name: string): Promise<Directory | undefined> {
    return (await this.partitions.lookup(name)) ?? (await this.snapshots.lookup(name));
  }

  async list(): Promise<readonly DirectoryItem[]> {
    return [...(await this.partitions.list()), ...(await this.snapshots.list())];
  }

  /** Nobody can reach them any more. Rejects with the first error. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([this.partitions.close(), this.snapshots.close()]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
}
