import { CompressedPlace } from '../compressed-place.ts';
import { hostOffset, isCompressed, isCopied, ZERO_BIT } from '../l2-entry.ts';
import type { References } from './references.ts';

export interface L1Location {
  readonly offset: number;
  readonly entries: number;
  /** For messages: `the L1 table`, `the L1 table of snapshot "a"`. */
  readonly what: string;
  /** The L1 table that the guest's disk is read through: fragmentation is counted. */
  readonly active: boolean;
}

/** Counts everything that one L1 table names: itself, its L2 tables, their clusters. */
export async function countMapping(references: References, l1: L1Location): Promise<void> {
  const { image } = references;
  if (l1.entries === 0 || !references.table(l1.offset, l1.entries * 8, l1.what)) return;
  const bytes = Buffer.alloc(l1.entries * 8);
  await image.file.read(bytes, l1.offset);
  const counter = new L2Counter(references, l1.active);
  for (let index = 0; index < l1.entries; index += 1) {
    const table = hostOffset(bytes.readUInt32BE(index * 8), bytes.readUInt32BE(index * 8 + 4));
    if (table === 0) continue;
    if (references.table(table, image.geometry.clusterSize, `the L2 table ${index} of ${l1.what}`)) {
      await counter.count(table, index);
    }
  }
}

class L2Counter {
  private readonly references: References;
  private readonly active: boolean;
  private readonly bytes: Buffer;
  private readonly place = new CompressedPlace();
  private nextContiguous = -1;

  constructor(references: References, active: boolean) {
    this.references = references;
    this.active = active;
    this.bytes = Buffer.alloc(references.image.geometry.clusterSize);
  }

  async count(table: number, l1Index: number): Promise<void> {
    const { image } = this.references;
    const { tableEntries, entrySize, tableSpan, clusterSize } = image.geometry;
    await image.file.read(this.bytes, table);
    for (let index = 0; index < tableEntries; index += 1) {
      const high = this.bytes.readUInt32BE(index * entrySize);
      const low = this.bytes.readUInt32BE(index * entrySize + 4);
      const guest = l1Index * tableSpan + index * clusterSize;
      if (high === 0 && low === 0) this.checkBitmap(index, guest);
      else if (isCompressed(high)) this.countCompressed(high, low, guest);
      else this.countStandard(high, low, guest);
    }
  }

  private countCompressed(high: number, low: number, guest: number): void {
    const { findings, image } = this.references;
    const what = `the compressed cluster of guest offset ${guest}`;
    if (isCopied(high))
      findings.corruption(`${what} has the flag of unshared clusters, which compressed ones must not`);
    if (image.external) findings.corruption(`${what} can't be with an external data file`);
    this.place.decode(high, low, image.geometry.compressedOffsetBits);
    if (!this.place.sane) findings.corruption(`${what} is at ${this.place.offset}, must be below 2^53`);
    else this.references.bytes(this.place.offset, this.place.length, what);
    if (!this.active) return;
    findings.allocatedClusters += 1;
    findings.compressedClusters += 1;
    findings.fragmentedClusters += 1;
  }

  private countStandard(high: number, low: number, guest: number): void {
    const { findings, image } = this.references;
    const { clusterSize, entrySize } = image.geometry;
    const offset = hostOffset(high, low);
    if (offset === 0 && !(image.external && isCopied(high))) return;
    const isReserved = entrySize === 8 && (low & ZERO_BIT) !== 0;
    const what = `the ${isReserved ? 'zero ' : ''}cluster of guest offset ${guest}`;
    if (image.external) {
      if (offset !== guest)
        findings.corruption(`${what} is at ${offset} of the data file, must be at ${guest}`);
    } else {
      this.references.table(offset, clusterSize, what);
    }
    if (!this.active) return;
    findings.allocatedClusters += 1;
    if (this.nextContiguous >= 0 && offset !== this.nextContiguous) findings.fragmentedClusters += 1;
    this.nextContiguous = offset + clusterSize;
  }

  private checkBitmap(index: number, guest: number): void {
    const { entrySize } = this.references.image.geometry;
    if (entrySize === 8 || this.bytes.readUInt32BE(index * 16 + 12) === 0) return;
    this.references.findings.corruption(
      `subclusters of guest offset ${guest} are allocated, but the cluster has no place`,
    );
  }
}
