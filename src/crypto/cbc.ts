import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import type { Cipheriv } from 'node:crypto';
import { dropKey } from './drop-key.ts';
import { CIPHER_SECTOR, writePlain64 } from './sector-cipher.ts';
import type { SectorCipher } from './sector-cipher.ts';

/**
 * AES-CBC by sectors. Decryption, where blocks do not depend on each other, is one ECB call for all sectors and an xor with
 * what stood before each block; encryption takes a call a sector.
 */
export class CbcCipher implements SectorCipher {
  private readonly key: Buffer;
  private readonly name: string;
  private readonly essiv: Cipheriv | undefined;

  /** @param ivHash the hash of `essiv:HASH`; undefined for plain64 */
  constructor(key: Buffer, ivHash: string | undefined) {
    this.key = Buffer.from(key);
    this.name = `aes-${key.length * 8}`;
    if (ivHash === undefined) return;
    const salt = createHash(ivHash).update(key).digest();
    this.essiv = createCipheriv(`aes-${salt.length * 8}-ecb`, salt, null).setAutoPadding(false);
    salt.fill(0);
  }

  encrypt(bytes: Buffer, at: number, length: number, sector: number): void {
    const vectors = this.vectors(length / CIPHER_SECTOR, sector);
    for (let done = 0, index = 0; done < length; done += CIPHER_SECTOR, index += 1) {
      const iv = vectors.subarray(index * 16, index * 16 + 16);
      const cipher = createCipheriv(`${this.name}-cbc`, this.key, iv).setAutoPadding(false);
      cipher.update(bytes.subarray(at + done, at + done + CIPHER_SECTOR)).copy(bytes, at + done);
      dropKey(cipher);
    }
  }

  decrypt(bytes: Buffer, at: number, length: number, sector: number): void {
    const vectors = this.vectors(length / CIPHER_SECTOR, sector);
    const stored = Buffer.from(bytes.subarray(at, at + length));
    const decipher = createDecipheriv(`${this.name}-ecb`, this.key, null).setAutoPadding(false);
    const plain = decipher.update(stored);
    dropKey(decipher);
    for (let block = 0; block < length; block += 16) {
      const first = block % CIPHER_SECTOR === 0;
      const before = first ? vectors : stored;
      const from = first ? (block / CIPHER_SECTOR) * 16 : block - 16;
      for (let word = 0; word < 16; word += 4) {
        bytes.writeInt32LE(
          plain.readInt32LE(block + word) ^ before.readInt32LE(from + word),
          at + block + word,
        );
      }
    }
  }

  wipe(): void {
    this.key.fill(0);
    if (this.essiv !== undefined) dropKey(this.essiv);
  }

  private vectors(sectors: number, first: number): Buffer {
    const plain = Buffer.alloc(sectors * 16);
    for (let index = 0; index < sectors; index += 1) writePlain64(plain, index * 16, first + index);
    return this.essiv === undefined ? plain : this.essiv.update(plain);
  }
}
