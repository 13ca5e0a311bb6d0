/**
 * AES-XTS (IEEE 1619) over many sectors in three calls of the library, instead of one call for every 512 bytes:
 *
 *   T[s]      = ECB(key 2, sector number)          one call for all sectors
 *   T[s][j]   = T[s] * alpha^j in GF(2^128)        here, on 32-bit words
 *   C         = ECB(key 1, P xor T) xor T          one call for all blocks
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { Cipheriv, Decipheriv } from 'node:crypto';
import { dropKey } from './drop-key.ts';
import { CIPHER_SECTOR, writePlain64 } from './sector-cipher.ts';
import type { SectorCipher } from './sector-cipher.ts';

const CHUNK = 64 * 1024;
const BLOCKS = CIPHER_SECTOR / 16;

const work = Buffer.alloc(CHUNK);
const words = new Int32Array(work.buffer, work.byteOffset, CHUNK / 4);
const tweaks = new Int32Array(CHUNK / 4);
const numbers = Buffer.alloc((CHUNK / CIPHER_SECTOR) * 16);

export class XtsCipher implements SectorCipher {
  private readonly tweaker: Cipheriv;
  private readonly encipher: Cipheriv;
  private readonly decipher: Decipheriv;

  /** @param key both halves: 32 bytes for AES-128, 64 for AES-256 */
  constructor(key: Buffer) {
    const half = key.length / 2;
    const name = `aes-${half * 8}-ecb`;
    this.encipher = createCipheriv(name, key.subarray(0, half), null).setAutoPadding(false);
    this.decipher = createDecipheriv(name, key.subarray(0, half), null).setAutoPadding(false);
    this.tweaker = createCipheriv(name, key.subarray(half), null).setAutoPadding(false);
  }

  encrypt(bytes: Buffer, at: number, length: number, sector: number): void {
    this.run(this.encipher, { bytes, at, length }, sector);
  }

  decrypt(bytes: Buffer, at: number, length: number, sector: number): void {
    this.run(this.decipher, { bytes, at, length }, sector);
  }

  wipe(): void {
    for (const cipher of [this.encipher, this.decipher, this.tweaker]) dropKey(cipher);
    work.fill(0);
    tweaks.fill(0);
  }

  private run(cipher: Cipheriv, range: { bytes: Buffer; at: number; length: number }, sector: number): void {
    for (let done = 0; done < range.length; done += CHUNK) {
      const step = Math.min(CHUNK, range.length - done);
      const from = range.at + done;
      this.makeTweaks(step / CIPHER_SECTOR, sector + done / CIPHER_SECTOR);
      range.bytes.copy(work, 0, from, from + step);
      xorWords(words, step / 4);
      const out = cipher.update(work.subarray(0, step));
      out.copy(work);
      xorWords(words, step / 4);
      work.copy(range.bytes, from, 0, step);
    }
  }

  private makeTweaks(sectors: number, first: number): void {
    for (let index = 0; index < sectors; index += 1) writePlain64(numbers, index * 16, first + index);
    const starts = this.tweaker.update(numbers.subarray(0, sectors * 16));
    let out = 0;
    for (let index = 0; index < sectors; index += 1) {
      let t0 = starts.readInt32LE(index * 16);
      let t1 = starts.readInt32LE(index * 16 + 4);
      let t2 = starts.readInt32LE(index * 16 + 8);
      let t3 = starts.readInt32LE(index * 16 + 12);
      for (let block = 0; block < BLOCKS; block += 1) {
        tweaks[out] = t0;
        tweaks[out + 1] = t1;
        tweaks[out + 2] = t2;
        tweaks[out + 3] = t3;
        out += 4;
        const carry = (t3 >> 31) & 0x87;
        t3 = (t3 << 1) | (t2 >>> 31);
        t2 = (t2 << 1) | (t1 >>> 31);
        t1 = (t1 << 1) | (t0 >>> 31);
        t0 = (t0 << 1) ^ carry;
      }
    }
  }
}

function xorWords(target: Int32Array, count: number): void {
  for (let index = 0; index < count; index += 1) target[index] = (target[index] ?? 0) ^ (tweaks[index] ?? 0);
}
