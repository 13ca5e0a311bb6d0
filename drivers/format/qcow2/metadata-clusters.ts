import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { SnapshotTable } from './snapshots.ts';

/**
 * Which host clusters hold tables. A cluster that the refcounts call free but that is in here means damage: giving it out
 * would destroy the image.
 */
export class MetadataClusters {
  private readonly image: Image;
  private readonly clusters = new Map<number, string>();

  constructor(image: Image, parts: { l1: L1Table; refcountTable: RefcountTable; snapshots: SnapshotTable }) {
    this.image = image;
    const { fields } = image.header;
    this.add(0, 1, 'the header');
    this.add(fields.l1_table_offset, fields.l1_size * 8, 'the L1 table');
    this.add(parts.refcountTable.offset, parts.refcountTable.byteLength, 'the refcount table');
    if (fields.nb_snapshots > 0)
      this.add(fields.snapshots_offset, parts.snapshots.length, 'the snapshot table');
    for (const { l1Offset, l1Entries, name } of parts.snapshots.snapshots) {
      this.add(l1Offset, l1Entries * 8, `the L1 table of snapshot "${name}"`);
    }
    this.addTables(parts.l1, parts.refcountTable);
  }

  add(offset: number, length: number, what: string): void {
    const { clusterSize } = this.image.geometry;
    for (let at = offset; at < offset + length; at += clusterSize) this.clusters.set(at / clusterSize, what);
  }

  remove(offset: number, length: number): void {
    const { clusterSize } = this.image.geometry;
    for (let at = offset; at < offset + length; at += clusterSize) this.clusters.delete(at / clusterSize);
  }

  /** Throws (damage) when the cluster about to be given out holds a table. */
  refuse(cluster: number): void {
    const what = this.clusters.get(cluster);
    if (what !== undefined) this.image.corrupt(`cluster ${cluster} holds ${what}, but its refcount is 0`);
  }

  private addTables(l1: L1Table, refcountTable: RefcountTable): void {
    const { clusterSize } = this.image.geometry;
    for (let index = 0; index < l1.length; index += 1) {
      if (!l1.isEmpty(index)) this.clusters.set(l1.tableOffset(index) / clusterSize, 'an L2 table');
    }
    for (let index = 0; index < refcountTable.length; index += 1) {
      const offset = refcountTable.blockOffset(index);
      if (offset !== 0) this.clusters.set(offset / clusterSize, 'a refcount block');
    }
  }
}
