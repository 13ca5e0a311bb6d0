import { open } from 'node:fs/promises';

/** Reads and edits the tables of an image file. */
export class Damage {
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async u64(at: number): Promise<bigint> {
    const bytes = Buffer.alloc(8);
    const file = await open(this.path, 'r');
    await file.read(bytes, 0, 8, at);
    await file.close();
    return bytes.readBigUInt64BE();
  }

  async set64(at: number, value: bigint): Promise<void> {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    const file = await open(this.path, 'r+');
    await file.write(bytes, 0, 8, at);
    await file.close();
  }

  async set16(at: number, value: number): Promise<void> {
    const file = await open(this.path, 'r+');
    await file.write(Buffer.from([value >> 8, value & 255]), 0, 2, at);
    await file.close();
  }

  async refcountTable(): Promise<number> {
    return Number(await this.u64(48));
  }

  async refcountBlock(): Promise<number> {
    return Number(await this.u64(await this.refcountTable()));
  }

  async l1(): Promise<number> {
    return Number(await this.u64(40));
  }

  async l2(index = 0): Promise<number> {
    return Number((await this.u64((await this.l1()) + index * 8)) & 0xfffffffffffe00n);
  }

  /** Changes the 16-bit refcount of a 64k cluster of the first block. */
  async setRefcount(cluster: number, value: number): Promise<void> {
    await this.set16((await this.refcountBlock()) + cluster * 2, value);
  }
}
