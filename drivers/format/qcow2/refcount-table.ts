import type { Image } from './image.ts';
import { writeTable } from './table-io.ts';
import { readU64, writeU64 } from './u64.ts';

const SECTOR = 512;

/** The refcount table, whole in memory: where the refcount blocks are. Specification: "Host cluster management". */
export class RefcountTable {
  private readonly image: Image;
  private bytes: Buffer;
  offset: number;
  private readonly dirtySectors = new Set<number>();

  constructor(image: Image, bytes: Buffer, offset: number) {
    this.image = image;
    this.bytes = bytes;
    this.offset = offset;
  }

  get length(): number {
    return this.bytes.length / 8;
  }

  get byteLength(): number {
    return this.bytes.length;
  }

  /** An entry points at a block that is on disk, but does not itself stand there yet. */
  get dirty(): boolean {
    return this.dirtySectors.size > 0;
  }

  /** Byte offset of a refcount block; 0 when there is none: all its refcounts are 0. */
  blockOffset(index: number): number {
    if (index >= this.length) return 0;
    const offset = readU64(this.bytes, index * 8);
    const { clusterSize } = this.image.geometry;
    if (offset % clusterSize === 0) {
      // Behind the end it would read as if every cluster was free.
      const { size } = this.image.file;
      if (offset < size) return offset;
      return this.image.corrupt(`refcount table entry ${index} is ${offset}, but the file ends at ${size}`);
    }
    return this.image.corrupt(
      `refcount table entry ${index} is ${offset}, must be a multiple of ${clusterSize}`,
    );
  }

  set(index: number, offset: number): void {
    writeU64(this.bytes, offset, index * 8);
    this.dirtySectors.add(Math.floor((index * 8) / SECTOR));
  }

  /** A copy with room for `length` bytes. */
  grown(length: number): Buffer {
    const wider = Buffer.alloc(length);
    this.bytes.copy(wider);
    return wider;
  }

  /** The header names a new table from now on; `bytes` stands there already. */
  moveTo(bytes: Buffer, offset: number): void {
    this.bytes = bytes;
    this.offset = offset;
    this.dirtySectors.clear();
  }

  takeDirty(): Map<number, Buffer> {
    const batch = new Map<number, Buffer>();
    for (const sector of this.dirtySectors) {
      batch.set(sector, Buffer.from(this.bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR)));
    }
    this.dirtySectors.clear();
    return batch;
  }

  putBack(batch: ReadonlyMap<number, Buffer>): void {
    for (const sector of batch.keys()) this.dirtySectors.add(sector);
  }

  async write(batch: ReadonlyMap<number, Buffer>): Promise<void> {
    for (const [sector, bytes] of batch)
      await writeTable(this.image.file, bytes, this.offset + sector * SECTOR);
  }
}
