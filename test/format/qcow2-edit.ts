/** Tables of a qcow2 image in memory, to be damaged. */
export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;
/** A place that no file here reaches. */
export const FAR = 0x7000000000n;
/** Bits that make a place of 64 KiB clusters misaligned. */
export const CROOKED = 0x1200n;

const OFFSET = 0xfffffffffffe00n;
const BITMAPS = Buffer.from('23852875', 'hex');

export class Edit {
  bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  u64(at: number): bigint {
    return this.bytes.readBigUInt64BE(at);
  }

  set64(at: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(value, at);
  }

  /** Sets bits of a field of 64. */
  or(at: number, bits: bigint): void {
    this.set64(at, this.u64(at) | bits);
  }

  clear(at: number, bits: bigint): void {
    this.set64(at, this.u64(at) & ~bits);
  }

  /** Byte offset that the entry there names. */
  place(at: number): number {
    return Number(this.u64(at) & OFFSET);
  }

  get l1(): number {
    return this.place(40);
  }

  /** The first L2 table, or another one. */
  l2(index = 0): number {
    return this.place(this.l1 + index * 8);
  }

  /** Where the L2 entry of a cluster of the first table is. */
  entry(cluster: number, size = 8): number {
    return this.l2() + cluster * size;
  }

  /** Moves the L1 table to the end of the file, which has the first bytes of it only. */
  cutL1(length: number): void {
    const end = Math.ceil(this.bytes.length / length) * length;
    const kept = this.bytes.subarray(this.l1, this.l1 + length);
    this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length), kept]);
    this.set64(40, BigInt(end));
  }

  get refcountTable(): number {
    return this.place(48);
  }

  get refcountBlock(): number {
    return this.place(this.refcountTable);
  }

  /** Changes a 16-bit refcount of the first block. */
  refcount(cluster: number, value: number): void {
    this.bytes.writeUInt16BE(value, this.refcountBlock + cluster * 2);
  }

  get snapshots(): number {
    return this.place(64);
  }

  /** The second entry of the snapshot table, of entries with 24 bytes of extra data and short names. */
  get secondSnapshot(): number {
    const texts = this.bytes.readUInt16BE(this.snapshots + 12) + this.bytes.readUInt16BE(this.snapshots + 14);
    return this.snapshots + Math.ceil((40 + this.bytes.readUInt32BE(this.snapshots + 36) + texts) / 8) * 8;
  }

  /** The field of the bitmaps extension that says where the directory is. */
  get bitmapDirectoryField(): number {
    return this.bytes.indexOf(BITMAPS) + 8 + 16;
  }

  get bitmapDirectory(): number {
    return this.place(this.bitmapDirectoryField);
  }
}
