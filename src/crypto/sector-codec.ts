import type { DataCodec } from '../block/driver.ts';
import { CIPHER_SECTOR } from './sector-cipher.ts';
import type { SectorCipher } from './sector-cipher.ts';

/** @param counted which of a sector's two offsets, of the disk and in the file, its number counts by */
export function sectorCodec(
  cipher: SectorCipher,
  counted: (offset: number, place: number) => number,
): DataCodec {
  return {
    unit: CIPHER_SECTOR,
    decode: (bytes, at, length, offset, place) => {
      cipher.decrypt(bytes, at, length, counted(offset, place) / CIPHER_SECTOR);
    },
    encode: (bytes, at, length, offset, place) => {
      cipher.encrypt(bytes, at, length, counted(offset, place) / CIPHER_SECTOR);
    },
  };
}
