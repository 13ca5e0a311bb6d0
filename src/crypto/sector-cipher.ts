/** Encryption of disks in sectors of 512 bytes, each with an initialisation vector made from its number. */

export const CIPHER_SECTOR = 512;

export interface SectorCipher {
  /**
   * In place: bytes[at, at+length), whole sectors, the first of which has number `sector`. Never waits.
   */
  encrypt(bytes: Buffer, at: number, length: number, sector: number): void;
  decrypt(bytes: Buffer, at: number, length: number, sector: number): void;
  /** Overwrites the keys; the cipher can't be used afterwards. */
  wipe(): void;
}

/** Writes a sector number as 64-bit little endian, the rest of the 16 bytes is zero (plain64). */
export function writePlain64(out: Buffer, at: number, sector: number): void {
  out.writeUInt32LE(sector % 2 ** 32, at);
  out.writeUInt32LE(Math.floor(sector / 2 ** 32), at + 4);
  out.fill(0, at + 8, at + 16);
}
