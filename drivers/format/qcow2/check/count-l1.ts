import { BlockStatus } from '../../../../src/block/extent.ts';
import { alignDown } from '../../../../src/util/sizes.ts';
import type { ClusterMap } from '../cluster-map.ts';
import { COPIED_WORD, hostOffset, OFFSET_HIGH } from '../l2-entry.ts';
import { encodeWords, showWords } from './entry-words.ts';
import type { EntryWords } from './entry-words.ts';
import { looksLikeL2 } from './looks-like-l2.ts';
import type { References } from './references.ts';
import type { TableFix } from './table-fix.ts';

const RESERVED_HIGH = 0x7f000000;
const RESERVED_LOW = 0x1ff;
const CHUNK = 1024 * 1024;

export interface L1Location {
  readonly offset: number;
  /** The first entry to be looked at. */
  readonly from: number;
  /** One past the last one. */
  readonly entries: number;
  /** Tables that have these entries: those of snapshots may lie over one another. */
  readonly times: number;
  /** For messages: `the L1 table`, `the L1 table of snapshot "a"`. */
  readonly what: string;
  /** The L1 table that the guest's disk is read through: fragmentation is counted. */
  readonly active: boolean;
}

export interface L1Entry extends EntryWords {
  readonly index: number;
}

/** Calls `look` with each entry that is not 0. What the file has no room for is not read: huge tables of sparse files. */
export async function eachL1Entry(
  { image }: Pick<References, 'image'>,
  { offset, from, entries }: Pick<L1Location, 'offset' | 'from' | 'entries'>,
  look: (entry: L1Entry) => void | Promise<void>,
): Promise<void> {
  const end = entries * 8;
  const bytes = Buffer.alloc(Math.min(CHUNK, end - from * 8));
  const status = new BlockStatus();
  for (let done = from * 8; done < end;) {
    await image.file.status(offset + done, end - done, status);
    if (status.zero && status.length >= 8) {
      done += alignDown(status.length, 8);
      continue;
    }
    const part = bytes.subarray(0, Math.min(CHUNK, end - done));
    await image.file.read(part, offset + done);
    const words = new Uint32Array(part.buffer, part.byteOffset, part.length / 4);
    for (let word = 0; word < words.length; word += 2) {
      if (((words[word] ?? 0) | (words[word + 1] ?? 0)) === 0) continue;
      const at = word * 4;
      const entry = { high: part.readUInt32BE(at), low: part.readUInt32BE(at + 4), index: (done + at) / 8 };
      const waits = look(entry);
      if (waits !== undefined) await waits;
    }
    done += part.length;
  }
}

/** Looks at the entries of one L1 table and counts in `uses` how often each L2 table that can be read is named. */
export async function countL1(references: References, l1: L1Location, uses: ClusterMap): Promise<void> {
  const counter = new L1Counter(references, l1, uses);
  await eachL1Entry(references, l1, (entry) => counter.count(entry));
}

class L1Counter {
  private readonly references: References;
  private readonly l1: L1Location;
  private readonly uses: ClusterMap;

  constructor(references: References, l1: L1Location, uses: ClusterMap) {
    this.references = references;
    this.l1 = l1;
    this.uses = uses;
  }

  count(entry: L1Entry): void | Promise<void> {
    const { references } = this;
    const { clusterSize } = references.image.geometry;
    const offset = hostOffset(entry.high, entry.low);
    if (offset === 0) {
      this.noTable(entry);
      return;
    }
    const what = (): string => `the L2 table of ${this.name(entry)}`;
    if (hasReserved(entry)) this.reserved(entry, offset % clusterSize === 0);
    if (!references.count(offset, clusterSize, what, this.l1.times)) {
      references.isCutShort = true;
      references.fix(this.giveUp(entry));
      return;
    }
    if (offset % clusterSize !== 0) {
      this.misaligned(entry, what());
      return;
    }
    const cluster = offset / clusterSize;
    const other = references.tableAt(cluster);
    if (other === undefined) this.use(cluster);
    else return this.overlapping(entry, cluster, other);
  }

  private use(cluster: number): void {
    this.uses.set(cluster, this.uses.get(cluster) + this.l1.times);
    if (this.l1.active) this.references.activate(cluster);
  }

  private noTable(entry: L1Entry): void {
    const what = `${this.name(entry)} is ${showWords(entry)}: it has flags, but no L2 table`;
    this.references.findings.corruption(what, this.l1.times);
    this.references.fix(this.giveUp(entry));
  }

  private reserved(entry: L1Entry, isAligned: boolean): void {
    const what = `${this.name(entry)} is ${showWords(entry)}: it has reserved bits set`;
    this.references.findings.corruption(what, this.l1.times);
    if (!isAligned) return;
    const { high, low } = entry;
    const clean = { high: withoutReserved(high), low: low - (low & RESERVED_LOW) };
    this.references.fix(this.change(entry, clean, 'reserved bits cleared'));
  }

  private misaligned(entry: L1Entry, what: string): void {
    const { references } = this;
    const { clusterSize } = references.image.geometry;
    references.isCutShort = true;
    const offset = hostOffset(entry.high, entry.low);
    references.findings.corruption(
      `${what} is at ${offset}, must be a multiple of the cluster size ${clusterSize}`,
      this.l1.times,
    );
    const cluster = Math.floor(offset / clusterSize);
    const { high, low } = entry;
    const aligned = { high: withoutReserved(high), low: low - (low % clusterSize) };
    const keep = this.change(entry, aligned, `it is taken to name cluster ${cluster}`);
    references.suspect({ cluster, isTable: true, own: this.l1.times, keep, giveUp: this.giveUp(entry) });
  }

  /** Refcounts can be made anew: what looks like an L2 table keeps its place. Else the entry is what is wrong. */
  private async overlapping(entry: L1Entry, cluster: number, other: string): Promise<void> {
    const { references } = this;
    const isRefcounts = other === 'a refcount block' || other === 'the refcount table';
    if (isRefcounts && (await looksLikeL2(references, cluster))) {
      this.use(cluster);
      return;
    }
    references.isCutShort = true;
    const what = `the L2 table of ${this.name(entry)} is in cluster ${cluster}, which holds ${other}`;
    references.findings.corruption(what, this.l1.times);
    references.fix(this.giveUp(entry));
  }

  private giveUp(entry: L1Entry): TableFix {
    const { tableSpan } = this.references.image.geometry;
    const from = entry.index * tableSpan;
    const lost = `guest offsets ${from} to ${from + tableSpan} read as if never written`;
    return { ...this.change(entry, { high: 0, low: 0 }, lost), loses: true };
  }

  private change(entry: L1Entry, next: EntryWords, what: string): TableFix {
    const message = `${this.name(entry)} was ${showWords(entry)}: ${what}`;
    return { at: this.l1.offset + entry.index * 8, bytes: encodeWords(next), message, loses: false };
  }

  private name({ index }: L1Entry): string {
    return `entry ${index} of ${this.l1.what}`;
  }
}

const hasReserved = ({ high, low }: EntryWords): boolean =>
  (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0;

function withoutReserved(high: number): number {
  return (high & OFFSET_HIGH) + (high >= COPIED_WORD ? COPIED_WORD : 0);
}
