/**
 * Encrypted images. Guest data is encrypted in sectors of 512 bytes, tables never are. Compressed clusters are stored
 * as they are, and none are written.
 *
 *   AES    key: the passphrase, cut or zero filled to 16 bytes; sectors count from the start of the disk
 *   LUKS   key: from a LUKS1 header in clusters of its own; sectors count from the start of the file that holds the data
 */
import type { Child } from '../../../src/block/child.ts';
import type { DataCodec, OpenContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { legacyAesCipher } from '../../../src/crypto/legacy-aes.ts';
import { decodeLuksHeader, LUKS_HEADER_BYTES } from '../../../src/crypto/luks-header.ts';
import { luksInfo } from '../../../src/crypto/luks-info.ts';
import { openLuksCipher } from '../../../src/crypto/luks-open.ts';
import type { LuksStore } from '../../../src/crypto/luks-slots.ts';
import type { SectorCipher } from '../../../src/crypto/sector-cipher.ts';
import { sectorCodec } from '../../../src/crypto/sector-codec.ts';
import { ExtensionType } from './extensions.ts';
import type { HeaderExtension } from './extensions.ts';
import type { Header } from './header.ts';
import type { Qcow2Options } from './options.ts';
import { readU64 } from './u64.ts';

export const CryptMethod = { none: 0, aes: 1, luks: 2 } as const;

export interface Encryption {
  readonly codec: DataCodec;
  /** The header of a LUKS image, and a passphrase that opens it. */
  readonly luks?: {
    readonly store: LuksStore;
    readonly passphrase: () => Promise<Buffer | undefined>;
  };
  /** For `info`. */
  readonly details: Readonly<Record<string, unknown>>;
  wipe(): void;
}

/** Unlocks the image; undefined for one that is not encrypted. */
export async function openEncryption(
  context: OpenContext<Qcow2Options>,
  header: Header,
  extensions: readonly HeaderExtension[],
): Promise<Encryption | undefined> {
  const { options, subject } = context;
  const { crypt_method: method } = header;
  const found = method === CryptMethod.none ? 'not encrypted' : method === CryptMethod.aes ? 'aes' : 'luks';
  const wanted = options['encrypt.format'];
  if (wanted !== undefined && wanted !== found) {
    const what = `encrypt.format is ${wanted}, but the image is ${found}`;
    throw new BlockError('EINVAL', `Cannot open image "${subject}": ${what}`);
  }
  if (method === CryptMethod.none) return undefined;
  return method === CryptMethod.aes ? openAes(context) : openLuks(context, extensions);
}

async function openAes(context: OpenContext<Qcow2Options>): Promise<Encryption> {
  const passphrase = await context.secret(context.options['encrypt.key-secret']);
  const cipher = legacyAesCipher(passphrase, context.subject);
  return encryptionOf(cipher, (offset) => offset, { format: 'aes' });
}

async function openLuks(
  context: OpenContext<Qcow2Options>,
  extensions: readonly HeaderExtension[],
): Promise<Encryption> {
  const { subject } = context;
  const file = context.child('file');
  const { offset, length } = encryptionHeaderPlace(extensions);
  const head = Buffer.alloc(LUKS_HEADER_BYTES);
  await file.read(head, offset);
  const luks = decodeLuksHeader(head, subject, length);
  const passphrase = (): Promise<Buffer | undefined> => context.secret(context.options['encrypt.key-secret']);
  const store: LuksStore = { subject, header: luks, length, ...bytesFrom(file, offset) };
  const read: LuksStore['read'] = (bytes, at) => store.read(bytes, at);
  const cipher = await openLuksCipher(luks, await passphrase(), read, subject);
  const counted = encryptionOf(cipher, (_offset, place) => place, { format: 'luks', ...luksInfo(luks) });
  return { ...counted, luks: { store, passphrase } };
}

/** A header that does not stand at the start of its file. */
function bytesFrom(file: Child, start: number): Pick<LuksStore, 'read' | 'write' | 'flush'> {
  return {
    read: (bytes, offset) => file.read(bytes, start + offset),
    write: (bytes, offset) => file.write(bytes, start + offset),
    flush: () => file.flush(),
  };
}

/** Where the extension says that the LUKS header is; 0 bytes without one. Checked when the image is opened. */
export function encryptionHeaderPlace(extensions: readonly HeaderExtension[]): {
  offset: number;
  length: number;
} {
  const data = extensions.find(({ type }) => type === ExtensionType.encryption)?.data;
  if (data === undefined || data.length < 16) return { offset: 0, length: 0 };
  return { offset: readU64(data, 0), length: readU64(data, 8) };
}

function encryptionOf(
  cipher: SectorCipher,
  counted: (offset: number, place: number) => number,
  details: Readonly<Record<string, unknown>>,
): Encryption {
  return {
    codec: sectorCodec(cipher, counted),
    details,
    wipe: () => {
      cipher.wipe();
    },
  };
}
