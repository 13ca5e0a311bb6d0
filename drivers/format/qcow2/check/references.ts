import { BlockError } from '../../../../src/block/errors.ts';
import { ClusterMap } from '../cluster-map.ts';
import { ClusterRanges } from '../cluster-ranges.ts';
import { refcountMax } from '../refcount-entry.ts';
import type { Image } from '../image.ts';
import { ClusterCounts } from './cluster-counts.ts';
import type { Findings } from './findings.ts';
import type { Suspect, TableFix } from './table-fix.ts';
import type { SharedEntry } from './unshare.ts';

/** QEMU's bound as well: more would take minutes to compare. */
const CLUSTERS_MAX = 2 ** 31;
const FIXES_MAX = 65536;

export const Single = { block: 1, bitmapPiece: 2 } as const;

/** Counts what tables name, and gathers what is wrong with them and how to mend it. */
export class References {
  readonly image: Image;
  readonly counts: ClusterCounts;
  readonly findings: Findings;
  /** Clusters of the file, the last one perhaps in part. */
  readonly fileClusters: number;
  /** What holds neither L2 tables nor data: the header, L1 tables, lists. */
  readonly fixed = new ClusterRanges();
  /** The same for single clusters: refcount blocks that are where they may be, pieces of bitmaps. */
  readonly singles = new ClusterMap();
  /** Entries that are surely wrong, with what they are to be. Not all, if there are very many: look again. */
  readonly fixes: TableFix[] = [];
  /** Entries whose place may be found out once everything is counted. */
  readonly suspects: Suspect[] = [];
  /** Entries of the disk whose clusters it has twice. */
  readonly shared: SharedEntry[] = [];
  /** Something that names clusters can't be followed: what looks like a leak may be named by it. */
  isCutShort = false;
  /** The file ends within the L1 table. */
  cutL1 = false;
  private readonly countMax: number;
  /** 1 for clusters of the disk and its L2 tables. */
  private readonly active: ClusterCounts;

  constructor(image: Image, findings: Findings) {
    this.image = image;
    this.findings = findings;
    this.counts = new ClusterCounts(image.subject);
    this.active = new ClusterCounts(image.subject);
    this.countMax = refcountMax(image.geometry.refcountBits);
    this.fileClusters = Math.ceil(image.file.size / image.geometry.clusterSize);
    if (this.fileClusters <= CLUSTERS_MAX) return;
    const what = `the file has ${this.fileClusters} clusters, must have at most ${CLUSTERS_MAX}`;
    throw new BlockError('EFBIG', `Cannot check image "${image.subject}": ${what}`);
  }

  /**
   * Counts every cluster that a range of bytes touches; the last one may lie partly behind the end of the file. False, and a
   * finding, when it is out of the file.
   */
  count(offset: number, length: number, what: () => string, times = 1): boolean {
    if (!(length > 0)) return true;
    const { clusterSize } = this.image.geometry;
    const { size } = this.image.file;
    if (!(offset + length - size < clusterSize)) {
      const text = `${what()} is at ${offset}, ${length} bytes long, but the file ends at ${size}`;
      this.findings.corruption(text, times);
      return false;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster += 1)
      this.countOne(cluster, what, times);
    return true;
  }

  /**
   * The usual case of `count` and `activate`, in few steps: a cluster of the file, with room for its count, that the disk does
   * not have yet. False, with nothing done, where it is not that.
   */
  tryCount(cluster: number, times: number, active: boolean): boolean {
    if (!(cluster < this.fileClusters) || (active && this.active.get(cluster) !== 0)) return false;
    if (!this.counts.tryAdd(cluster, times, this.countMax)) return false;
    if (active) this.active.tryAdd(cluster, 1, 1);
    return true;
  }

  /** Counts tables that are neither L2 tables nor refcount blocks: none of those can be in the same place. */
  countFixed(offset: number, length: number, what: string): boolean {
    if (!this.count(offset, length, () => what)) return false;
    const { clusterSize } = this.image.geometry;
    this.fixed.add(Math.floor(offset / clusterSize), Math.ceil((offset + length) / clusterSize), what);
    return true;
  }

  /** The table that a cluster belongs to and that is no L2 table. */
  tableAt(cluster: number): string | undefined {
    const single = this.singles.get(cluster);
    if (single === 0) return this.fixed.find(cluster);
    return single === Single.block ? 'a refcount block' : 'a piece of a bitmap';
  }

  isInFile(offset: number): boolean {
    return offset < this.image.file.size;
  }

  /** When there is no room for more the next look finds what is left. */
  fix(fix: TableFix): void {
    if (this.fixes.length < FIXES_MAX) this.fixes.push(fix);
  }

  suspect(suspect: Suspect): void {
    if (this.suspects.length < FIXES_MAX) this.suspects.push(suspect);
  }

  /** The disk as it is has the cluster. False when it has it already. */
  activate(cluster: number): boolean {
    if (this.active.get(cluster) !== 0) return false;
    this.active.set(cluster, 1);
    return true;
  }

  share(entry: SharedEntry): void {
    if (this.shared.length < FIXES_MAX) this.shared.push(entry);
  }

  private countOne(cluster: number, what: () => string, times: number): void {
    const before = this.counts.get(cluster);
    const after = before + times;
    if (after <= this.countMax) {
      this.counts.set(cluster, after);
      return;
    }
    this.counts.set(cluster, this.countMax);
    const bits = this.image.geometry.refcountBits;
    this.findings.corruption(
      `${what()} names cluster ${cluster}, which has as many references as ${bits} bits can count`,
      after - this.countMax,
    );
  }
}
