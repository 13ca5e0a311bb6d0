import type { Image } from './image.ts';
import { hostOffset, isCopied, OFFSET_HIGH } from './l2-entry.ts';
import { writeTable } from './table-io.ts';
import { writeU64 } from './u64.ts';

const SECTOR = 512;
const PER_SECTOR = SECTOR / 8;
const COPIED_BYTE = 0x80;

/** The active L1 table, whole in memory. Specification: "Cluster mapping". */
export class L1Table {
  private readonly image: Image;
  private bytes: Buffer;
  private offset: number;
  private readonly dirtySectors = new Set<number>();

  /** @param bytes the table as it stands at `offset` of the file */
  constructor(image: Image, bytes: Buffer, offset: number) {
    this.image = image;
    this.bytes = bytes;
    this.offset = offset;
  }

  get length(): number {
    return this.bytes.length / 8;
  }

  get dirty(): boolean {
    return this.dirtySectors.size > 0;
  }

  isEmpty(index: number): boolean {
    const at = index * 8;
    return ((this.bytes.readUInt32BE(at) & OFFSET_HIGH) | (this.bytes.readUInt32BE(at + 4) & ~511)) === 0;
  }

  /** Whether the L2 table's refcount is exactly one: it may be changed where it is. */
  isOwn(index: number): boolean {
    return isCopied(this.bytes.readUInt32BE(index * 8)) && !this.isEmpty(index);
  }

  /** Byte offset of the L2 table; 0 without one. */
  tableOffset(index: number): number {
    const offset = hostOffset(this.bytes.readUInt32BE(index * 8), this.bytes.readUInt32BE(index * 8 + 4));
    const { clusterSize } = this.image.geometry;
    if (offset % clusterSize === 0 && Number.isSafeInteger(offset)) {
      // Behind the end it would read as if nothing was allocated. Nobody else makes a file longer that is written here.
      const { writable, file } = this.image;
      if (!writable || offset < file.size) return offset;
      return this.image.corrupt(`L1 entry ${index} is ${offset}, but the file ends at ${file.size}`);
    }
    return this.image.corrupt(
      `L1 entry ${index} is ${offset}, must be a multiple of the cluster size ${clusterSize}`,
    );
  }

  /** Number of entries from `index` on without an L2 table. */
  emptyRun(index: number, max: number): number {
    let count = 0;
    while (count < max && index + count < this.length && this.isEmpty(index + count)) count += 1;
    return count;
  }

  /** Takes over what stands on disk, after a repair wrote there. */
  async reload(): Promise<void> {
    await this.image.file.read(this.bytes, this.offset);
    this.dirtySectors.clear();
  }

  /** Byte offset of the table in the file. */
  get place(): number {
    return this.offset;
  }

  copy(): Buffer {
    return Buffer.from(this.bytes);
  }

  /** A copy with room for more entries. */
  grown(entries: number): Buffer {
    const wider = Buffer.alloc(entries * 8);
    this.bytes.copy(wider);
    return wider;
  }

  /** The header names this table from now on; `bytes` stands at `offset` already. */
  moveTo(bytes: Buffer, offset: number): void {
    this.bytes = bytes;
    this.offset = offset;
    this.dirtySectors.clear();
  }

  /** Takes an entry's L2 table away; returns where it was, 0 without one. */
  clear(index: number): number {
    const offset = this.tableOffset(index);
    if (offset !== 0) this.set(index, 0);
    return offset;
  }

  /** Points an entry at a table that only it names. */
  set(index: number, offset: number): void {
    writeU64(this.bytes, offset, index * 8);
    if (offset !== 0) this.bytes[index * 8] = (this.bytes[index * 8] ?? 0) | COPIED_BYTE;
    this.dirtySectors.add(Math.floor(index / PER_SECTOR));
  }

  /** The changed sectors as they are now; memory is clean after it. `putBack` when they could not be written. */
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
