import type { BitmapList } from './bitmap/list.ts';
import { ClusterMap } from './cluster-map.ts';
import { ClusterRanges } from './cluster-ranges.ts';
import type { ClusterRange } from './cluster-ranges.ts';
import { encryptionHeaderPlace } from './encryption.ts';
import { inactiveTables } from './inactive-tables.ts';
import type { Image } from './image.ts';
import type { L1Table } from './l1-table.ts';
import { kindOfTable, OVERLAP_DEFAULT } from './overlap-modes.ts';
import type { MetadataKind } from './overlap-modes.ts';
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

/** What a single cluster holds, as bits. `own`: the L2 table is changed in place; `shared`: several L1 entries name it. */
const Single = { l2: 1, own: 2, shared: 4, block: 8 } as const;

/** Tables of several clusters as ranges, L2 tables and refcount blocks one by one. */
interface Known {
  readonly ranges: ClusterRanges;
  readonly singles: ClusterMap;
}

/**
 * Which host clusters hold tables. A cluster that the refcounts call free but that is in here means damage: giving it out
 * would destroy the image. So does a cluster that holds two tables one of which is changed in place, or a table and data.
 */
export class MetadataClusters {
  private readonly image: Image;
  private readonly parts: MetadataParts;
  private readonly kinds: ReadonlySet<MetadataKind>;
  private known: Known | undefined = undefined;
  /** What has become a table since: entries that are in memory were looked at before. */
  private late = new ClusterMap();
  /** The L2 tables of snapshots; what the disk shares with them is in `known` as well. */
  private inactive = new ClusterMap();

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
    if (this.isOn) this.known ??= this.collect();
  }

  /** What table the cluster holds, if any that is looked after. */
  whatIs(cluster: number): string | undefined {
    this.known ??= this.collect();
    const single = this.known.singles.get(cluster);
    if ((single & Single.l2) !== 0) return 'an L2 table';
    if ((single & Single.block) !== 0) return 'a refcount block';
    const what = this.known.ranges.find(cluster);
    return what ?? (this.inactive.get(cluster) === 0 ? undefined : 'an L2 table of a snapshot');
  }

  /**
   * Whether data may be written to, or freed at, clusters that an L2 entry in memory names. A table can only have come there
   * because the refcounts called them free: damage.
   */
  mayHoldData(first: number, count: number): boolean {
    if (this.late.size === 0) return true;
    for (let cluster = first; cluster < first + count; cluster += 1) {
      if (this.late.get(cluster) === 0) continue;
      this.image.noteDamage(`an L2 entry names cluster ${cluster}, which holds a new table`);
      return false;
    }
    return true;
  }

  /** To be called when the snapshots are others now: their L2 tables are named on disk only. */
  async loadInactive(): Promise<void> {
    if (!this.kinds.has('inactive-l2')) return;
    this.inactive = await inactiveTables(this.image, this.parts.snapshots.snapshots);
  }

  /** To be called after the tables themselves were changed. */
  add(offset: number, length: number, what: string): void {
    const { known } = this;
    if (known === undefined || !this.kinds.has(kindOfTable(what))) return;
    const { first, end } = this.clustersOf(offset, length);
    const bits = singleBits(what);
    for (let cluster = first; cluster < end; cluster += 1) this.late.set(cluster, 1);
    if (bits === 0) known.ranges.add(first, end, what);
    else for (let cluster = first; cluster < end; cluster += 1) known.singles.set(cluster, bits);
  }

  remove(offset: number, length: number): void {
    const { known } = this;
    if (known === undefined) return;
    const { first, end } = this.clustersOf(offset, length);
    known.ranges.remove(first, end);
    for (let cluster = first; cluster < end; cluster += 1) {
      this.late.set(cluster, 0);
      if ((known.singles.get(cluster) & Single.shared) === 0) known.singles.set(cluster, 0);
    }
  }

  /** Much has changed: looks again when asked next. */
  forget(): void {
    this.known = undefined;
    this.late = new ClusterMap();
  }

  /** Throws (damage) when the cluster about to be given out holds a table. */
  refuse(cluster: number): void {
    const what = this.whatIs(cluster);
    if (what !== undefined) this.image.corrupt(`cluster ${cluster} holds ${what}, but its refcount is 0`);
  }

  /** Not before the first cluster is given out: most images are opened to be read. */
  private collect(): Known {
    const known = { ranges: this.collectRanges(), singles: new ClusterMap() };
    known.ranges.sort();
    const { l1, refcountTable } = this.parts;
    const { clusterSize } = this.image.geometry;
    if (this.kinds.has('active-l2')) {
      for (let index = 0; index < l1.length; index += 1) {
        if (!l1.isEmpty(index))
          this.addL2(known, l1.tableOffset(index) / clusterSize, l1.isOwn(index) ? Single.own : 0);
      }
    }
    if (!this.kinds.has('refcount-block')) return known;
    for (let index = 0; index < refcountTable.length; index += 1) {
      const offset = refcountTable.blockOffset(index);
      if (offset !== 0) this.addSingle(known, offset / clusterSize, Single.block);
    }
    return known;
  }

  private collectRanges(): ClusterRanges {
    const { snapshots, refcountTable, l1, bitmaps } = this.parts;
    const { snapshots_offset: listAt } = this.image.header.fields;
    const ranges = new ClusterRanges((one, other) => {
      this.overlapping(one, other);
    });
    const add = (offset: number, length: number, what: string): void => {
      if (!this.kinds.has(kindOfTable(what))) return;
      const { first, end } = this.clustersOf(offset, length);
      ranges.add(first, end, what);
    };
    add(0, 1, 'the header');
    add(l1.place, l1.length * 8, 'the L1 table');
    add(refcountTable.offset, refcountTable.byteLength, 'the refcount table');
    add(listAt, snapshots.length, 'the snapshot table');
    const encryption = encryptionHeaderPlace(this.image.extensions);
    add(encryption.offset, encryption.length, 'the encryption header');
    for (const { l1Offset, l1Entries, name } of snapshots.snapshots)
      add(l1Offset, l1Entries * 8, `the L1 table of snapshot "${name}"`);
    for (const { offset, length, what } of bitmaps?.taken(this.image.geometry.clusterSize) ?? [])
      add(offset, length, what);
    return ranges;
  }

  /** Two L1 entries may name one table as long as neither changes it in place. */
  private addL2(known: Known, cluster: number, own: number): void {
    const before = known.singles.get(cluster);
    if ((before & Single.l2) === 0) this.addSingle(known, cluster, Single.l2 | own);
    else if (((before | own) & Single.own) !== 0)
      this.image.corrupt(`cluster ${cluster} holds two L2 tables, and one of them is said to be unshared`);
    else known.singles.set(cluster, before | Single.shared);
  }

  private addSingle(known: Known, cluster: number, bits: number): void {
    const what = (bits & Single.l2) === 0 ? 'a refcount block' : 'an L2 table';
    const before = known.singles.get(cluster);
    const single = (before & Single.l2) === 0 ? 'a refcount block' : 'an L2 table';
    const other = before === 0 ? known.ranges.find(cluster) : single;
    if (other !== undefined) this.image.corrupt(`cluster ${cluster} holds both ${other} and ${what}`);
    known.singles.set(cluster, bits);
  }

  /** Tables of snapshots are never changed where they are: they may be shared. Bitmaps are checked when they are loaded. */
  private overlapping(one: ClusterRange, other: ClusterRange): void {
    const kinds = [kindOfTable(one.what), kindOfTable(other.what)];
    if (kinds.includes('bitmap-directory')) return;
    if (kinds.every((kind) => kind === 'inactive-l1' || kind === 'snapshot-table')) return;
    this.image.corrupt(`cluster ${other.first} holds both ${one.what} and ${other.what}`);
  }

  private clustersOf(offset: number, length: number): { first: number; end: number } {
    const { clusterSize } = this.image.geometry;
    return { first: Math.floor(offset / clusterSize), end: Math.ceil((offset + length) / clusterSize) };
  }
}

function singleBits(what: string): number {
  const kind = kindOfTable(what);
  if (kind === 'active-l2') return Single.l2 | Single.own;
  return kind === 'refcount-block' ? Single.block : 0;
}
