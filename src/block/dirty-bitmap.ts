import { BlockError } from './errors.ts';
import { BitPages } from '../util/bit-pages.ts';
import { isPowerOfTwo } from '../util/sizes.ts';

const MIN_GRANULARITY = 512;
const MAX_GRANULARITY = 2 ** 31;
/** 512 MiB, as QEMU has it. */
const MAX_BITS = 2 ** 32;

/** A run of bytes that are all dirty, whole granules but for the end of the disk. */
export interface DirtyRun {
  readonly offset: number;
  readonly length: number;
}

/** Which parts of a disk were written since it was made or cleared, one bit for each `granularity` bytes. */
export class DirtyBitmap {
  readonly name: string;
  readonly granularity: number;
  /** To be stored in the image when it is closed. */
  persistent: boolean;
  /** Writes are noted. */
  enabled = true;
  /** Loaded from an image that does not vouch for what it says: it notes nothing, and can only be removed. */
  readonly inconsistent: boolean;
  /** Changes with every change of what it says. */
  revision = 0;
  /** Who uses it (a job), in words; nobody may change or remove it meanwhile. */
  user: string | undefined = undefined;
  /** Bytes of the disk. */
  size: number;
  private bits: BitPages;
  private dirty = 0;

  constructor(given: {
    name: string;
    granularity: number;
    size: number;
    persistent?: boolean;
    inconsistent?: boolean;
  }) {
    const { name, granularity, size, persistent = false, inconsistent = false } = given;
    if (name === '') throw new BlockError('EINVAL', 'Bitmap name cannot be empty');
    if (!isPowerOfTwo(granularity) || granularity < MIN_GRANULARITY || granularity > MAX_GRANULARITY)
      throw new BlockError('EINVAL', 'Granularity must be power of 2 and at least 512');
    this.name = name;
    this.granularity = granularity;
    this.persistent = persistent;
    this.inconsistent = inconsistent;
    this.enabled = !inconsistent;
    this.size = inconsistent ? 0 : size;
    this.bits = newBits(this.size, granularity);
  }

  /** Bytes of an image that one takes; of memory as many at most, where dirty and clean granules lie close together. */
  static bytesFor(size: number, granularity: number): number {
    return Math.ceil(Math.ceil(size / granularity) / 8);
  }

  /** Bytes that are dirty. */
  get dirtyBytes(): number {
    const last = this.granules - 1;
    const cut = last >= 0 && this.has(last) ? this.granules * this.granularity - this.size : 0;
    return this.dirty * this.granularity - cut;
  }

  isDirty(offset: number): boolean {
    return this.has(Math.floor(offset / this.granularity));
  }

  /** Notes a write. Past the end: the disk has grown. Allocates where a part of the disk is noted first. */
  set(offset: number, length: number): void {
    if (length <= 0) return;
    if (offset + length > this.size) this.resize(offset + length);
    const first = Math.floor(offset / this.granularity);
    const changed = this.bits.set(first, Math.floor((offset + length - 1) / this.granularity) + 1);
    this.dirty += changed;
    if (changed > 0) this.revision += 1;
  }

  /** Forgets what was written in a range; granules that lie partly outside stay dirty. */
  reset(offset: number, length: number): void {
    const first = Math.ceil(offset / this.granularity);
    const end =
      offset + length >= this.size ? this.granules : Math.floor((offset + length) / this.granularity);
    this.dirty -= this.bits.reset(first, end);
    this.revision += 1;
  }

  clear(): void {
    this.bits = newBits(this.size, this.granularity);
    this.dirty = 0;
    this.revision += 1;
  }

  /** What it says, a bit for each granule; to be looked at in the same turn, and not to be changed. */
  get content(): BitPages {
    return this.bits;
  }

  /** The same at this moment; what comes later does not change it. */
  frozen(): DirtyBitmap {
    const { name, granularity, size } = this;
    const copy = new DirtyBitmap({ name, granularity, size });
    copy.restore(this.save());
    return copy;
  }

  /** The first dirty run at or after `offset`; undefined when there is none. */
  nextDirty(offset: number): DirtyRun | undefined {
    const end = this.granules;
    const first = this.bits.next(Math.floor(offset / this.granularity));
    if (first >= end || offset >= this.size) return undefined;
    const last = this.bits.nextClear(first);
    const start = Math.max(offset, first * this.granularity);
    return { offset: start, length: Math.min(this.size, last * this.granularity) - start };
  }

  /** Adds what another bitmap has, which may be of another granularity. */
  merge(other: DirtyBitmap): void {
    for (let run = other.nextDirty(0); run !== undefined; run = other.nextDirty(run.offset + run.length))
      this.set(run.offset, Math.min(run.length, this.size - run.offset));
  }

  /** What it holds, to be put back by `restore`. */
  save(): BitPages {
    return this.bits.copy();
  }

  /** Takes over bits as `content` shows them, of a disk of the same size. */
  restore(saved: BitPages): void {
    this.bits = saved;
    this.dirty = saved.count();
    this.revision += 1;
  }

  /** Throws where it can't be of a disk of that size. */
  requireRoom(size: number): void {
    if (!this.inconsistent) requireBits(size, this.granularity);
  }

  /** The disk has another size. What is new is not dirty. */
  resize(size: number): void {
    if (this.inconsistent || size === this.size) return;
    requireBits(size, this.granularity);
    this.size = size;
    this.restore(this.bits.resized(this.granules));
  }

  private get granules(): number {
    return Math.ceil(this.size / this.granularity);
  }

  private has(index: number): boolean {
    return this.bits.has(index);
  }
}

function newBits(size: number, granularity: number): BitPages {
  requireBits(size, granularity);
  return new BitPages(Math.ceil(size / granularity));
}

function requireBits(size: number, granularity: number): void {
  if (Math.ceil(size / granularity) > MAX_BITS)
    throw new BlockError('EINVAL', `Granularity ${granularity} is too small for a disk of ${size} bytes`);
}
