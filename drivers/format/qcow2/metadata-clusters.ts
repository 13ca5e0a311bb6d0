import type { BitmapList } from './bitmap/list.ts';
import { encryptionHeaderPlace } from './encryption.ts';
import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { SnapshotTable } from './snapshots.ts';

export interface MetadataParts {
  readonly l1: L1Table;
  readonly refcountTable: RefcountTable;
  readonly snapshots: SnapshotTable;
  readonly bitmaps?: BitmapList;
}

/**
 * Which host clusters hold tables. A cluster that the refcounts call free but that is in here means damage: giving it out
 * would destroy the image.
 */
export class MetadataClusters {
  private readonly image: Image;
  private readonly parts: MetadataParts;
  private clusters: Map<number, string> | undefined = undefined;

  constructor(image: Image, parts: MetadataParts) {
    this.image = image;
    this.parts = parts;
  }

  /** To be called after the tables themselves were changed. */
  add(offset: number, length: number, what: string): void {
    if (this.clusters !== undefined) this.addTo(this.clusters, { offset, length, what });
  }

  remove(offset: number, length: number): void {
    const { clusterSize } = this.image.geometry;
    for (let at = offset; at < offset + length; at += clusterSize) this.clusters?.delete(at / clusterSize);
  }

  /** Much has changed: looks again when asked next. */
  forget(): void {
    this.clusters = undefined;
  }

  /** Throws (damage) when the cluster about to be given out holds a table. */
  refuse(cluster: number): void {
    this.clusters ??= this.collect();
    const what = this.clusters.get(cluster);
    if (what !== undefined) this.image.corrupt(`cluster ${cluster} holds ${what}, but its refcount is 0`);
  }

  /** Not before the first cluster is given out: most images are opened to be read. */
  private collect(): Map<number, string> {
    const { fields } = this.image.header;
    const { snapshots, refcountTable, l1 } = this.parts;
    const found = new Map<number, string>();
    this.addTo(found, { offset: 0, length: 1, what: 'the header' });
    this.addTo(found, { offset: fields.l1_table_offset, length: l1.length * 8, what: 'the L1 table' });
    const { offset, byteLength } = refcountTable;
    this.addTo(found, { offset, length: byteLength, what: 'the refcount table' });
    const { snapshots_offset: tableAt } = fields;
    this.addTo(found, { offset: tableAt, length: snapshots.length, what: 'the snapshot table' });
    const encryption = encryptionHeaderPlace(this.image.extensions);
    this.addTo(found, { ...encryption, what: 'the encryption header' });
    for (const { l1Offset, l1Entries, name } of snapshots.snapshots) {
      const what = `the L1 table of snapshot "${name}"`;
      this.addTo(found, { offset: l1Offset, length: l1Entries * 8, what });
    }
    for (const range of this.parts.bitmaps?.taken(this.image.geometry.clusterSize) ?? [])
      this.addTo(found, range);
    this.addSecondLevel(found);
    return found;
  }

  private addSecondLevel(found: Map<number, string>): void {
    const { clusterSize } = this.image.geometry;
    const { l1, refcountTable } = this.parts;
    for (let index = 0; index < l1.length; index += 1) {
      if (!l1.isEmpty(index)) found.set(l1.tableOffset(index) / clusterSize, 'an L2 table');
    }
    for (let index = 0; index < refcountTable.length; index += 1) {
      const offset = refcountTable.blockOffset(index);
      if (offset !== 0) found.set(offset / clusterSize, 'a refcount block');
    }
  }

  private addTo(found: Map<number, string>, range: { offset: number; length: number; what: string }): void {
    const { clusterSize } = this.image.geometry;
    const end = range.offset + range.length;
    for (let at = range.offset; at < end; at += clusterSize) found.set(at / clusterSize, range.what);
  }
}
