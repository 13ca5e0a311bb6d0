/**
 * The encryption "aes" of qcow and qcow2: AES-128-CBC, its key the passphrase itself, cut or zero filled to 16 bytes; sectors
 * count from the start of the disk. Weak: for images that there are. No key is wrong for it.
 */
import { CbcCipher } from './cbc.ts';
import { LockedCipher } from './luks-open.ts';
import type { SectorCipher } from './sector-cipher.ts';

const KEY_LENGTH = 16;

/** @param passphrase undefined for an image that is opened without its key */
export function legacyAesCipher(passphrase: Buffer | undefined, subject: string): SectorCipher {
  if (passphrase === undefined) return new LockedCipher(subject);
  const key = Buffer.alloc(KEY_LENGTH);
  passphrase.copy(key);
  const cipher = new CbcCipher(key, undefined);
  key.fill(0);
  return cipher;
}
