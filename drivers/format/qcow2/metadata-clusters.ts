import type { BitmapList } from './bitmap/list.ts';
import { hostOffset } from './l2-entry.ts';
import { kindOfTable, OVERLAP_DEFAULT } from './overlap-modes.ts';
import type { MetadataKind } from './overlap-modes.ts';
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
  /** What is looked after. */
  readonly overlap?: ReadonlySet<MetadataKind> | undefined;
}

/**
 * Which host clusters hold tables. A cluster that the refcounts call free but that is in here means damage: giving it out
 * would destroy the image. So does a cluster that holds two tables, or a table and data.
 */
export class MetadataClusters {
  private readonly image: Image;
  private readonly parts: MetadataParts;
  private readonly kinds: ReadonlySet<MetadataKind>;
  private clusters: Map<number, string> | undefined = undefined;
  /** The L2 tables of snapshots; what the disk shares with them is in `clusters` as well. */
  private inactive: ReadonlySet<number> = new Set();

  constructor(image: Image, parts: MetadataParts) {
    this.image = image;
    this.parts = parts;
    this.kinds = parts.overlap ?? OVERLAP_DEFAULT;
  }

  /** Whether anything is looked after. */
  get isOn(): boolean {
    return this.kinds.size > 0;
  }

  /** Throws (damage) when two tables share a cluster: writing one would destroy the other. */
  verify(): void {
    if (this.isOn) this.clusters ??= this.collect();
  }

  /** What table the cluster holds, if any that is looked after. */
  whatIs(cluster: number): string | undefined {
    this.clusters ??= this.collect();
    const what = this.clusters.get(cluster);
    return what ?? (this.inactive.has(cluster) ? 'an L2 table of a snapshot' : undefined);
  }

  /** To be called when the snapshots are others now: their L2 tables are named on disk only. */
  async loadInactive(): Promise<void> {
    if (!this.kinds.has('inactive-l2')) return;
    const found = new Set<number>();
    const { clusterSize } = this.image.geometry;
    for (const { l1Offset, l1Entries } of this.parts.snapshots.snapshots) {
      const l1 = Buffer.alloc(l1Entries * 8);
      if (l1.length > 0) await this.image.file.read(l1, l1Offset);
      for (let at = 0; at < l1.length; at += 8) {
        const offset = hostOffset(l1.readUInt32BE(at), l1.readUInt32BE(at + 4));
        if (offset !== 0) found.add(offset / clusterSize);
      }
    }
    this.inactive = found;
  }

  /** To be called after the tables themselves were changed. */
  add(offset: number, length: number, what: string): void {
    if (this.clusters === undefined || !this.kinds.has(kindOfTable(what))) return;
    const { clusterSize } = this.image.geometry;
    for (let at = offset; at < offset + length; at += clusterSize) this.clusters.set(at / clusterSize, what);
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
    const what = this.whatIs(cluster);
    if (what !== undefined) this.image.corrupt(`cluster ${cluster} holds ${what}, but its refcount is 0`);
  }

  /** Not before the first cluster is given out: most images are opened to be read. */
  private collect(): Map<number, string> {
    const { fields } = this.image.header;
    const { snapshots, refcountTable, l1 } = this.parts;
    const found = new Map<number, string>();
    this.addTo(found, { offset: 0, length: 1, what: 'the header' });
    this.addTo(found, { offset: l1.place, length: l1.length * 8, what: 'the L1 table' });
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
    const length = 1;
    for (let index = 0; index < l1.length; index += 1) {
      if (l1.isEmpty(index)) continue;
      const offset = l1.tableOffset(index);
      this.addTo(found, { offset, length, what: 'an L2 table' });
    }
    for (let index = 0; index < refcountTable.length; index += 1) {
      const offset = refcountTable.blockOffset(index);
      if (offset % clusterSize === 0 && offset !== 0)
        this.addTo(found, { offset, length, what: 'a refcount block' });
    }
  }

  private addTo(found: Map<number, string>, range: { offset: number; length: number; what: string }): void {
    const { clusterSize } = this.image.geometry;
    const { offset, length, what } = range;
    const kind = kindOfTable(what);
    if (!this.kinds.has(kind)) return;
    for (let at = offset; at < offset + length; at += clusterSize) {
      const other = found.get(at / clusterSize);
      if (other !== undefined && kind !== 'bitmap-directory')
        this.image.corrupt(`cluster ${at / clusterSize} holds both ${other} and ${what}`);
      found.set(at / clusterSize, what);
    }
  }
}
