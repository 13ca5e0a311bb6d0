import type { Allocator } from './allocator.ts';
import type { Frees } from './frees.ts';
import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import type { L2Cache } from './l2-cache.ts';
import type { MetadataClusters } from './metadata-clusters.ts';
import type { CachedTable } from './table-cache.ts';

export interface L2TablesParts {
  readonly l1: L1Table;
  readonly l2: L2Cache;
  readonly allocator: Allocator;
  readonly metadata: MetadataClusters;
  readonly frees: Frees;
}

const SECTOR = 512;

/** L2 tables that may be changed: made where there is none, copied where a snapshot shares the old one. */
export class L2Tables {
  private readonly image: Image;
  private readonly parts: L2TablesParts;
  private readonly making = new Map<number, Promise<void>>();

  constructor(image: Image, parts: L2TablesParts) {
    this.image = image;
    this.parts = parts;
  }

  /** The slice of a guest offset, in a table that only the active L1 table names; undefined to load. */
  tryOwn(offset: number): CachedTable | undefined {
    const { tableSpan, sliceSpan } = this.image.geometry;
    const index = Math.floor(offset / tableSpan);
    if (this.parts.l1.isOwn(index)) return this.parts.l2.store.tryGet(Math.floor(offset / sliceSpan));
    this.image.need.want(() => this.make(index));
    return undefined;
  }

  private make(index: number): Promise<void> {
    const running = this.making.get(index);
    if (running !== undefined) return running;
    const made = this.makeOwn(index).finally(() => {
      this.making.delete(index);
    });
    this.making.set(index, made);
    return made;
  }

  /** The new table is filled before the L1 entry names it, so the entry may reach the disk in any later generation. */
  private async makeOwn(index: number): Promise<void> {
    const { l1, allocator, metadata, frees } = this.parts;
    const { clusterSize } = this.image.geometry;
    if (l1.isOwn(index)) return;
    const cluster = await allocator.take(1);
    const old = l1.tableOffset(index);
    try {
      await this.fill(cluster * clusterSize, old);
    } catch (error) {
      allocator.mayBeWritten((cluster + 1) * clusterSize);
      if (allocator.giveBack(cluster, 1) === 0) frees.add(cluster, 1, 'other');
      throw error;
    }
    l1.set(index, cluster * clusterSize);
    metadata.add(cluster * clusterSize, clusterSize, 'an L2 table');
    if (old === 0) return;
    metadata.remove(old, clusterSize);
    frees.add(old / clusterSize, 1, 'other');
  }

  private async fill(offset: number, old: number): Promise<void> {
    const { file, geometry } = this.image;
    if (old !== 0) {
      const bytes = Buffer.allocUnsafe(geometry.clusterSize);
      await file.read(bytes, old);
      await file.write(bytes, offset);
    } else if (this.parts.allocator.isFresh(offset)) {
      // Reads as zeroes already, but must not lie past the end of the file when an L1 entry names it.
      await file.write(Buffer.alloc(SECTOR), offset + geometry.clusterSize - SECTOR);
    } else await file.writeZeroes(offset, geometry.clusterSize);
  }
}
