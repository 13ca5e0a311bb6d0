import { CompressedPlace } from '../compressed-place.ts';
import type { Image } from '../image.ts';
import { COPIED_WORD, hostOffset, isCompressed, isCopied, Kind, L2Entry } from '../l2-entry.ts';
import type { ShadowRefcounts } from './shadow-refcounts.ts';

/** One L2 table as it stands on disk. */
export interface L2Table {
  readonly bytes: Buffer;
  readonly offset: number;
  /** Number of the L1 entry that names it. */
  readonly index: number;
}

/** Whole L2 tables, read past the cache: nothing of them is dirty. */
export class TableWalk {
  private readonly image: Image;
  private readonly counts: ShadowRefcounts;
  private readonly entry: L2Entry;
  private readonly place = new CompressedPlace();

  constructor(image: Image, counts: ShadowRefcounts) {
    this.image = image;
    this.counts = counts;
    this.entry = new L2Entry(image);
  }

  /** The L2 tables that an L1 table names, but for those that `skip` names. */
  async *tables(
    l1: Buffer,
    skip: (index: number, offset: number) => boolean = () => false,
  ): AsyncGenerator<L2Table, void> {
    const { clusterSize } = this.image.geometry;
    const bytes = Buffer.alloc(clusterSize);
    for (let index = 0; index * 8 < l1.length; index += 1) {
      const offset = l2TableAt(this.image, l1, index);
      if (offset === 0 || skip(index, offset)) continue;
      await this.image.file.read(bytes, offset);
      yield { bytes, offset, index };
    }
  }

  /** Counts every cluster that the table's entries name once more. */
  async addAll(table: L2Table): Promise<void> {
    for (let at = this.first(table, 0); at >= 0; at = this.first(table, at + 1)) {
      for (let cluster = this.from; cluster < this.end; cluster += 1)
        if (!this.counts.tryAdd(cluster)) await this.counts.add(cluster);
    }
  }

  /** The table's entries, and whatever names it, are gone. */
  async dropAll(table: L2Table): Promise<void> {
    for (let at = this.first(table, 0); at >= 0; at = this.first(table, at + 1)) {
      for (let cluster = this.from; cluster < this.end; cluster += 1)
        if (!this.counts.tryDrop(cluster, 'snapshot')) await this.counts.drop(cluster, 'snapshot');
    }
    await this.counts.drop(table.offset / this.image.geometry.clusterSize, 'snapshot');
  }

  /** Takes the flag of unshared clusters away; true when one had it. */
  clearFlags({ bytes }: L2Table): boolean {
    const { entrySize } = this.image.geometry;
    let changed = false;
    for (let at = 0; at < bytes.length; at += entrySize) {
      const high = bytes.readUInt32BE(at);
      if (!isCopied(high)) continue;
      bytes.writeUInt32BE(high - COPIED_WORD, at);
      changed = true;
    }
    return changed;
  }

  /** Gives the flag to entries whose cluster has no other user any more; true when one got it. */
  async setFlags(table: L2Table): Promise<boolean> {
    const { entrySize } = this.image.geometry;
    let changed = false;
    for (let at = this.first(table, 0); at >= 0; at = this.first(table, at + 1)) {
      const high = table.bytes.readUInt32BE(at * entrySize);
      if (isCopied(high) || isCompressed(high)) continue;
      const known = this.counts.tryRead(this.from);
      const count = known < 0 ? await this.counts.read(this.from) : known;
      if (count !== 1) continue;
      table.bytes.writeUInt32BE(high + COPIED_WORD, at * entrySize);
      changed = true;
    }
    return changed;
  }

  private from = 0;
  private end = 0;

  /** The next entry that names clusters, which are then [from, end); -1 behind the last one. */
  private first({ bytes, index }: L2Table, entryFrom: number): number {
    const { entrySize, tableEntries, tableSpan, clusterSize, compressedOffsetBits } = this.image.geometry;
    for (let number = entryFrom; number < tableEntries; number += 1) {
      const at = number * entrySize;
      if (bytes.readUInt32BE(at) === 0 && bytes.readUInt32BE(at + 4) === 0) continue;
      const guest = index * tableSpan + number * clusterSize;
      const { kind, offset, high, low } = this.entry.read(bytes, number, guest);
      if (kind === Kind.data || kind === Kind.reserved) {
        this.from = offset / clusterSize;
        this.end = this.from + 1;
        return number;
      }
      if (kind !== Kind.compressed) continue;
      const { offset: start, length, sane } = this.place.decode(high, low, compressedOffsetBits);
      if (!sane)
        this.image.corrupt(
          `the compressed cluster of guest offset ${guest} is at ${start}, must be below 2^53`,
        );
      this.from = Math.floor(start / clusterSize);
      this.end = Math.floor((start + length - 1) / clusterSize) + 1;
      return number;
    }
    return -1;
  }
}

/** Byte offset of an L2 table, as an entry of an L1 table names it; 0 without one. */
export function l2TableAt(image: Image, l1: Buffer, index: number): number {
  const offset = hostOffset(l1.readUInt32BE(index * 8), l1.readUInt32BE(index * 8 + 4));
  const { clusterSize } = image.geometry;
  if (offset % clusterSize === 0 && Number.isSafeInteger(offset)) return offset;
  return image.corrupt(`L1 entry ${index} is ${offset}, must be a multiple of ${clusterSize}`);
}
