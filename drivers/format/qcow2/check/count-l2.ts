import { CompressedPlace } from '../compressed-place.ts';
import {
  ALL_SUBCLUSTERS,
  COPIED_WORD,
  hostOffset,
  isCompressed,
  isCopied,
  OFFSET_HIGH,
  ZERO_BIT,
} from '../l2-entry.ts';
import { showWords } from './entry-words.ts';
import type { References } from './references.ts';
import type { TableFix } from './table-fix.ts';

export const STANDARD_RESERVED_HIGH = 0x3f000000;
export const STANDARD_RESERVED_LOW = 0x1fe;
const WORD = 2 ** 32;
/** Bits that an entry for nothing but data has not; those of the low word depend on the cluster size. */
const UNUSUAL_HIGH = 0x7f000000;

/** A table that is looked at once, however often it is named. */
export interface L2Visit {
  /** Byte offset in the file. */
  readonly table: number;
  /** L1 entries that name it. */
  readonly times: number;
  /** Guest offset of its first cluster, as far as the first L1 entry goes. */
  readonly guest: number;
  readonly active: boolean;
}

/** Counts what the entries of L2 tables name, and looks at each. One entry is taken apart at a time. */
export class L2Counter {
  private readonly references: References;
  private readonly bytes: Buffer;
  private readonly view: DataView;
  private readonly place = new CompressedPlace();
  private readonly canBeZero: boolean;
  private readonly clusterBits: number;
  private visit: L2Visit = { table: 0, times: 0, guest: 0, active: false };
  private nextContiguous = 0;
  private index = 0;
  private high = 0;
  private low = 0;
  /** Of extended entries. */
  private zeroes = 0;
  private allocated = 0;
  /** What the entry ought to be, and why; undefined while nothing is wrong with it. */
  private next: { high: number; low: number; zeroes: number; allocated: number } | undefined;
  private reasons: string[] = [];
  private loses = false;

  constructor(references: References) {
    this.references = references;
    const { clusterSize, version } = references.image.geometry;
    this.bytes = Buffer.alloc(clusterSize);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, clusterSize);
    this.canBeZero = version >= 3;
    this.clusterBits = Math.log2(clusterSize);
  }

  async count(visit: L2Visit): Promise<void> {
    const { image } = this.references;
    const { tableEntries, entrySize } = image.geometry;
    this.visit = visit;
    this.nextContiguous = 0;
    await image.file.read(this.bytes, visit.table);
    for (let index = 0; index < tableEntries; index += 1) {
      const at = index * entrySize;
      const high = this.view.getUint32(at);
      const low = this.view.getUint32(at + 4);
      if (entrySize === 16) {
        this.zeroes = this.view.getUint32(at + 8);
        this.allocated = this.view.getUint32(at + 12);
      }
      const isEmpty = (high | low) === 0;
      if (isEmpty ? this.allocated === 0 : this.tryCount(high, low)) continue;
      this.high = high;
      this.low = low;
      this.index = index;
      if (!isEmpty) this.countEntry();
      else this.checkNowhere();
      if (this.next !== undefined) this.settle();
    }
  }

  /** Nearly all entries: data in a cluster of its own, nothing to be told of. False: the entry has to be looked at. */
  private tryCount(high: number, low: number): boolean {
    const { references, visit, clusterBits } = this;
    const { external, geometry } = references.image;
    if ((high & UNUSUAL_HIGH) !== 0 || (low & (geometry.clusterSize - 1)) !== 0) return false;
    const cluster = (high & OFFSET_HIGH) * 2 ** (32 - clusterBits) + (low >>> clusterBits);
    if (cluster === 0 || external || (this.zeroes & this.allocated) !== 0) return false;
    if (!references.tryCount(cluster, visit.times, visit.active)) return false;
    if (visit.active) this.noteAllocated(cluster * geometry.clusterSize);
    return true;
  }

  private noteAllocated(offset: number): void {
    const { findings, image } = this.references;
    findings.allocatedClusters += 1;
    if (this.nextContiguous !== 0 && offset !== this.nextContiguous) findings.fragmentedClusters += 1;
    this.nextContiguous = offset + image.geometry.clusterSize;
  }

  private countEntry(): void {
    if (isCompressed(this.high)) {
      this.countCompressed();
      return;
    }
    const { external } = this.references.image;
    this.checkReserved();
    const offset = hostOffset(this.high, this.low);
    if (offset !== 0 || (external && isCopied(this.high))) this.countPlaced(offset);
    else if (this.allocated !== 0) this.checkNowhere();
  }

  private checkReserved(): void {
    const isReserved = (this.high & STANDARD_RESERVED_HIGH) !== 0 || (this.low & STANDARD_RESERVED_LOW) !== 0;
    if (isReserved) {
      this.corruption(`is ${showWords({ high: this.high, low: this.low })}: it has reserved bits set`);
      this.change('reserved bits cleared', {
        high: (this.high & OFFSET_HIGH) + (isCopied(this.high) ? COPIED_WORD : 0),
        low: this.low - (this.low & STANDARD_RESERVED_LOW),
      });
    }
    if (this.canBeZero || (this.low & ZERO_BIT) === 0) return;
    this.corruption('has the zero flag, which version 2 does not have');
    this.change('zero flag cleared', { low: this.after.low - ZERO_BIT });
  }

  private countCompressed(): void {
    const { findings, image } = this.references;
    if (isCopied(this.high)) {
      this.corruption('is compressed and has the flag of unshared clusters, which compressed ones must not');
      this.change('flag cleared', { high: this.high - COPIED_WORD });
    }
    if (image.external) {
      this.corruption("is compressed, which can't be with an external data file");
      this.toDataFile();
      return;
    }
    if (image.geometry.extendedL2 && (this.zeroes | this.allocated) !== 0) {
      this.corruption('is compressed and has a subcluster bitmap, which must be 0');
      this.change('bitmap cleared', { zeroes: 0, allocated: 0 });
      this.references.isCutShort = true;
      return;
    }
    this.place.decode(this.high, this.low, image.geometry.compressedOffsetBits);
    const { offset, length } = this.place;
    if (!this.references.count(offset, length, this.what, this.visit.times)) this.giveUp();
    if (!this.visit.active) return;
    findings.allocatedClusters += 1;
    findings.compressedClusters += 1;
    findings.fragmentedClusters += 1;
  }

  private countPlaced(offset: number): void {
    const { image } = this.references;
    const { clusterSize, extendedL2 } = image.geometry;
    if (extendedL2 && (this.zeroes & this.allocated) !== 0) {
      this.corruption('has subclusters both allocated and zero');
      this.change('they are taken for allocated', { zeroes: (this.zeroes & ~this.allocated) >>> 0 });
    }
    const isAligned = offset % clusterSize === 0;
    if (!isAligned)
      this.corruption(`is at ${offset}, must be at a multiple of the cluster size ${clusterSize}`);
    if (this.visit.active) this.noteAllocated(offset);
    if (image.external) this.checkDataFile(offset, isAligned);
    else if (!this.references.count(offset, clusterSize, this.what, this.visit.times)) this.giveUp();
    else if (!isAligned) this.misaligned(Math.floor(offset / clusterSize));
    else if (this.visit.active && !this.references.activate(offset / clusterSize)) this.share();
  }

  private share(): void {
    const { clusterSize, entrySize } = this.references.image.geometry;
    const at = this.visit.table + this.index * entrySize;
    const cluster = hostOffset(this.high, this.low) / clusterSize;
    this.references.share({ at, cluster, low: this.low, what: this.what() });
  }

  private checkDataFile(offset: number, isAligned: boolean): void {
    if (offset === this.guest) return;
    if (isAligned) this.corruption(`is at ${offset} of the data file, must be at ${this.guest}`);
    this.toDataFile();
  }

  /** Where nothing but zeroes would be lost none are; else the place may be found out. */
  private misaligned(cluster: number): void {
    const { image } = this.references;
    const holdsData = image.geometry.extendedL2 ? this.allocated !== 0 : (this.low & ZERO_BIT) === 0;
    this.giveUp();
    if (!holdsData) {
      this.loses = false;
      return;
    }
    const giveUp = this.takeFix();
    this.change(`it is taken to name cluster ${cluster}`, {
      high: this.high,
      low: this.low - (this.low % image.geometry.clusterSize),
      zeroes: (this.zeroes & ~this.allocated) >>> 0,
      allocated: this.allocated,
    });
    const keep = this.takeFix();
    if (keep === undefined || giveUp === undefined) return;
    this.references.suspect({ cluster, isTable: false, own: this.visit.times, keep, giveUp });
  }

  private checkNowhere(): void {
    this.corruption('has subclusters allocated, but no place');
    this.giveUp();
  }

  /** What was there is lost: it reads as zeroes, where entries can say that. */
  private giveUp(): void {
    const { image } = this.references;
    this.references.isCutShort = true;
    this.reasons = [];
    const old = showWords({ high: this.high, low: this.low });
    const { extendedL2, clusterSize } = image.geometry;
    const zeroes = this.canBeZero && !extendedL2 ? ZERO_BIT : 0;
    const bitmap = isCompressed(this.high) ? ALL_SUBCLUSTERS : (this.zeroes | this.allocated) >>> 0;
    const reads = this.canBeZero || !image.hasBacking() ? 'zeroes' : 'the backing file has it';
    const range = `guest offsets ${this.guest} to ${this.guest + clusterSize}`;
    this.change(`the entry was ${old}, ${range} read as ${reads}`, {
      high: 0,
      low: zeroes,
      zeroes: extendedL2 ? bitmap : 0,
      allocated: 0,
    });
    this.loses = true;
  }

  /** A cluster can be at one place only. */
  private toDataFile(): void {
    const { guest } = this;
    if (isCompressed(this.high)) this.change('it was compressed', { zeroes: 0, allocated: ALL_SUBCLUSTERS });
    this.change(`it is taken to be at ${guest} of the data file`, {
      high: Math.floor(guest / WORD) + COPIED_WORD,
      low: (guest % WORD) + (this.references.image.geometry.extendedL2 ? 0 : this.low & ZERO_BIT),
    });
  }

  private get after(): { high: number; low: number; zeroes: number; allocated: number } {
    const { high, low, zeroes, allocated } = this;
    return this.next ?? { high, low, zeroes, allocated };
  }

  private change(
    reason: string,
    words: { high?: number; low?: number; zeroes?: number; allocated?: number },
  ): void {
    const { high, low, zeroes, allocated } = this.after;
    this.next = { high, low, zeroes, allocated, ...words };
    this.reasons.push(reason);
  }

  private settle(): void {
    const fix = this.takeFix();
    if (fix !== undefined) this.references.fix(fix);
  }

  private takeFix(): TableFix | undefined {
    const { next, reasons, loses } = this;
    this.next = undefined;
    this.reasons = [];
    this.loses = false;
    if (next === undefined) return undefined;
    const { entrySize } = this.references.image.geometry;
    const bytes = Buffer.alloc(entrySize);
    bytes.writeUInt32BE(next.high, 0);
    bytes.writeUInt32BE(next.low, 4);
    if (entrySize === 16) {
      bytes.writeUInt32BE(next.zeroes, 8);
      bytes.writeUInt32BE(next.allocated, 12);
    }
    const at = this.visit.table + this.index * entrySize;
    return { at, bytes, message: `${this.what()}: ${reasons.join(', ')}`, loses };
  }

  private corruption(what: string): void {
    this.references.findings.corruption(`${this.what()} ${what}`, this.visit.times);
  }

  /** Guest offset of the entry's cluster. */
  private get guest(): number {
    return this.visit.guest + this.index * this.references.image.geometry.clusterSize;
  }

  private readonly what = (): string =>
    `the cluster of guest offset ${this.guest} (entry ${this.index} of the L2 table at ${this.visit.table})`;
}
