import { BlockError } from '../block/errors.ts';
import type { LuksHeader } from './luks-header.ts';
import { makeCipher, unlock } from './luks-key.ts';
import type { SectorCipher } from './sector-cipher.ts';

/** The cipher of a volume, unlocked with a passphrase; locked without one. */
export async function openLuksCipher(
  header: LuksHeader,
  passphrase: Buffer | undefined,
  readMaterial: (bytes: Buffer, offset: number) => Promise<void>,
  subject: string,
): Promise<SectorCipher> {
  if (passphrase === undefined) return new LockedCipher(subject);
  const key = await unlock(header, passphrase, readMaterial, subject);
  const cipher = makeCipher(header, key, subject);
  key.fill(0);
  return cipher;
}

/** Of an image that was opened without its key. */
export class LockedCipher implements SectorCipher {
  private readonly subject: string;

  constructor(subject: string) {
    this.subject = subject;
  }

  encrypt(): void {
    this.refuse();
  }

  decrypt(): void {
    this.refuse();
  }

  wipe(): void {
    // It has no key.
  }

  private refuse(): never {
    const text = `Cannot use the content of "${this.subject}": it is encrypted, and no key was given`;
    throw new BlockError('EACCES', text);
  }
}
