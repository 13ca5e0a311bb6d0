/** A new LUKS1 volume from the options that QEMU's tools know. */
import { pbkdf2, randomBytes, randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { choice, integer, optional, text } from '../block/schema.ts';
import type { OptionEntries } from '../block/schema.ts';
import { BlockError } from '../block/errors.ts';
import type { LuksHeader } from './luks-header.ts';
import { LUKS_SECTOR } from './luks-header.ts';
import { format, placesOf } from './luks-key.ts';

const derive = promisify(pbkdf2);
const HASHES = ['sha1', 'sha256', 'sha512'] as const;
/** PBKDF2 rounds of the measurement, and the least that a volume gets. */
const SAMPLE = 20_000;
const LEAST = 1000;

/** Without the prefix under which a driver has them. */
export const LUKS_CREATE_OPTIONS = {
  'key-secret': optional(text('Id of the secret that holds the passphrase; the key given when left out')),
  'cipher-alg': optional(choice(['aes-128', 'aes-192', 'aes-256'], 'Cipher and bits of its key'), 'aes-256'),
  'cipher-mode': optional(choice(['xts', 'cbc'], 'Mode of the cipher'), 'xts'),
  'ivgen-alg': optional(
    choice(['plain64', 'essiv'], 'Initialisation vectors: plain64, or essiv for the mode cbc'),
    'plain64',
  ),
  'ivgen-hash-alg': optional(choice(['sha256'], 'Hash of essiv')),
  'hash-alg': optional(choice(HASHES, 'Hash of the key derivation'), 'sha256'),
  'iter-time': optional(integer('Milliseconds that one try of a passphrase is to take', 1, 600_000), 2000),
} as const satisfies OptionEntries;

export interface NewVolume {
  readonly header: LuksHeader;
  /** From the start of the header to the payload. */
  readonly bytes: Buffer;
}

type OptionOf = (name: keyof typeof LUKS_CREATE_OPTIONS) => string;

interface Wanted {
  readonly cipherMode: string;
  readonly keyBytes: number;
  readonly passphrase: Buffer;
}

/** The options and the key, checked: what can't be made is refused by its name. */
export function checkLuksOptions(option: OptionOf, passphrase: Buffer | undefined, subject: string): Wanted {
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot create "${subject}": ${why}`);
  };
  if (passphrase === undefined) return refuse('no key was given to encrypt it with');
  if (passphrase.length === 0) refuse('the passphrase is empty');
  const mode = option('cipher-mode');
  const generator = option('ivgen-alg');
  const bits = Number(option('cipher-alg').replace('aes-', ''));
  // Its key material ends within a sector: QEMU 7.2 fails an assertion on such a volume.
  if (bits === 192) refuse('cipher-alg is aes-192, must be aes-128 or aes-256 for other programs to open it');
  if (mode === 'xts' && generator === 'essiv')
    refuse('ivgen-alg is essiv, must be plain64 with the mode xts');
  return {
    cipherMode: `${mode}-${generator === 'essiv' ? 'essiv:sha256' : generator}`,
    keyBytes: keyBytesOf(option),
    passphrase,
  };
}

function keyBytesOf(option: OptionOf): number {
  const bits = Number(option('cipher-alg').replace('aes-', ''));
  return (bits / 8) * (option('cipher-mode') === 'xts' ? 2 : 1);
}

/** From the start of the header of such a volume to the payload. */
export function luksHeaderBytes(option: OptionOf): number {
  return placesOf(keyBytesOf(option)).payloadOffset * LUKS_SECTOR;
}

/** @param option the value of one of LUKS_CREATE_OPTIONS, checked by its schema */
export async function newLuksVolume(
  option: OptionOf,
  given: Buffer | undefined,
  subject: string,
): Promise<NewVolume> {
  const { cipherMode, keyBytes, passphrase } = checkLuksOptions(option, given, subject);
  const hash = option('hash-alg');
  const iterations = await iterationsFor(Number(option('iter-time')), hash, keyBytes);
  const wanted = { cipherName: 'aes', cipherMode, hash, keyBytes, uuid: randomUUID(), iterations };
  const { header, bytes, key } = await format(wanted, passphrase);
  key.fill(0);
  return { header, bytes };
}

/** How many rounds take that many milliseconds here. */
export async function iterationsFor(milliseconds: number, hash: string, keyBytes: number): Promise<number> {
  const before = performance.now();
  await derive(randomBytes(16), randomBytes(32), SAMPLE, keyBytes, hash);
  const took = Math.max(0.1, performance.now() - before);
  return Math.max(LEAST, Math.min(50_000_000, Math.floor((SAMPLE * milliseconds) / took)));
}
