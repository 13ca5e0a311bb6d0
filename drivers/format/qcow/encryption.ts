/** An encrypted image: what its clusters hold is, tables and compressed clusters are not. */
import type { DataCodec, OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { choice, optional, text } from '../../../src/block/schema.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { legacyAesCipher } from '../../../src/crypto/legacy-aes.ts';
import { sectorCodec } from '../../../src/crypto/sector-codec.ts';

export const CryptMethod = { none: 0, aes: 1 } as const;

/** QEMU's names. */
export const ENCRYPT_OPTIONS = {
  'encrypt.format': optional(choice(['aes'], 'Encryption of the image: aes (weak, for old programs)')),
  'encrypt.key-secret': optional(
    text('Id of the secret that holds the passphrase; the key given when left out'),
  ),
};

export interface Encryption {
  readonly codec: DataCodec;
  wipe(): void;
}

/** Unlocks the image; undefined for one that is not encrypted. */
export async function openEncryption(
  context: OpenContext<OptionsOf<typeof ENCRYPT_OPTIONS>>,
  method: number,
): Promise<Encryption | undefined> {
  const { options, subject } = context;
  if (method === CryptMethod.none) {
    if (options['encrypt.format'] === undefined) return undefined;
    const what = `encrypt.format is ${options['encrypt.format']}, but the image is not encrypted`;
    throw new BlockError('EINVAL', `Cannot open image "${subject}": ${what}`);
  }
  const cipher = legacyAesCipher(await context.secret(options['encrypt.key-secret']), subject);
  return {
    codec: sectorCodec(cipher, (offset) => offset),
    wipe: () => {
      cipher.wipe();
    },
  };
}
