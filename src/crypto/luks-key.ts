/** From a passphrase to the master key of a LUKS1 volume, and back: sections 3 (PBKDF2), 2.4 and 5 (anti-forensic splitter). */
import { createHash, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { BlockError } from '../block/errors.ts';
import { CbcCipher } from './cbc.ts';
import type { LuksHeader, LuksKeySlot } from './luks-header.ts';
import { encodeLuksHeader, LUKS_SECTOR } from './luks-header.ts';
import type { SectorCipher } from './sector-cipher.ts';
import { XtsCipher } from './xts.ts';

const derive = promisify(pbkdf2);
const HASHES = ['sha1', 'sha256', 'sha512'];
const STRIPES = 4000;
/** Largest PBKDF2 work that a header may ask for: some minutes of one core. */
const MAX_ITERATIONS = 100_000_000;

/** The cipher that a header names, with a key; refused by name when it is none of ours. */
export function makeCipher(header: LuksHeader, key: Buffer, subject: string): SectorCipher {
  const name = `${header.cipherName}-${header.cipherMode}`;
  if (name === 'aes-xts-plain64' && (key.length === 32 || key.length === 64)) return new XtsCipher(key);
  if (name === 'aes-cbc-plain64' && key.length <= 32) return new CbcCipher(key, undefined);
  if (name === 'aes-cbc-essiv:sha256' && key.length <= 32) return new CbcCipher(key, 'sha256');
  const known = 'aes-xts-plain64, aes-cbc-plain64 and aes-cbc-essiv:sha256';
  const text = `cipher "${name}" with ${key.length * 8} key bits is not supported, only ${known}`;
  throw new BlockError('ENOTSUP', `Cannot open LUKS image "${subject}": ${text}`);
}

/** Fills a buffer from a byte offset of the header's file. */
export type ReadMaterial = (bytes: Buffer, offset: number) => Promise<void>;

/** Tries a passphrase on every active key slot. The derivation runs on the thread pool. */
export async function unlock(
  header: LuksHeader,
  passphrase: Buffer,
  readMaterial: ReadMaterial,
  subject: string,
): Promise<Buffer> {
  refuseUnknown(header, subject);
  for (const slot of header.slots) {
    const key = await openSlot(header, slot, passphrase, readMaterial);
    if (key !== undefined) return key;
  }
  const newline = passphrase.at(-1) === 10 ? ' (it ends with a newline, which counts)' : '';
  const text = `the passphrase fits none of its key slots${newline}`;
  throw new BlockError('EACCES', `Cannot open LUKS image "${subject}": ${text}`);
}

function refuseUnknown(header: LuksHeader, subject: string): void {
  if (!HASHES.includes(header.hash)) {
    const text = `hash "${header.hash}" is not supported, only ${HASHES.join(', ')}`;
    throw new BlockError('ENOTSUP', `Cannot open LUKS image "${subject}": ${text}`);
  }
  makeCipher(header, Buffer.alloc(header.keyBytes), subject).wipe();
}

/** The master key, if the slot is active and the passphrase fits it. */
export async function openSlot(
  header: LuksHeader,
  slot: LuksKeySlot,
  passphrase: Buffer,
  readMaterial: ReadMaterial,
): Promise<Buffer | undefined> {
  if (!slot.active || Math.max(slot.iterations, header.digestIterations) > MAX_ITERATIONS) return undefined;
  const slotKey = await derive(passphrase, slot.salt, slot.iterations, header.keyBytes, header.hash);
  const length = header.keyBytes * STRIPES;
  const material = Buffer.alloc(materialBytes(header.keyBytes));
  await readMaterial(material, slot.materialOffset * LUKS_SECTOR);
  const cipher = makeCipher(header, slotKey, 'key slot');
  cipher.decrypt(material, 0, material.length, 0);
  cipher.wipe();
  const key = merge(material.subarray(0, length), header.keyBytes, header.hash);
  for (const secret of [slotKey, material]) secret.fill(0);
  const digest = await derive(key, header.digestSalt, header.digestIterations, 20, header.hash);
  if (timingSafeEqual(digest, header.digest)) return key;
  key.fill(0);
  return undefined;
}

/** What a key slot's material takes: whole sectors. */
export const materialBytes = (keyBytes: number): number =>
  Math.ceil((keyBytes * STRIPES) / LUKS_SECTOR) * LUKS_SECTOR;

/** The master key as a key slot holds it, for whoever has the passphrase. */
export async function sealKey(
  header: LuksHeader,
  key: Buffer,
  passphrase: Buffer,
  slot: Pick<LuksKeySlot, 'salt' | 'iterations'>,
): Promise<Buffer> {
  const slotKey = await derive(passphrase, slot.salt, slot.iterations, header.keyBytes, header.hash);
  const split = splitKey(key, header.hash);
  const cipher = makeCipher(header, slotKey, 'key slot');
  const material = Buffer.alloc(materialBytes(header.keyBytes));
  split.copy(material);
  cipher.encrypt(material, 0, material.length, 0);
  for (const secret of [slotKey, split]) secret.fill(0);
  cipher.wipe();
  return material;
}

export interface LuksParameters {
  readonly cipherName: string;
  readonly cipherMode: string;
  readonly hash: string;
  readonly keyBytes: number;
  readonly uuid: string;
  /** PBKDF2 iterations of the key slot, at least 1000. */
  readonly iterations: number;
}

/** Sectors of a new volume: what each key slot has, and where the payload begins. */
export function placesOf(keyBytes: number): { readonly perSlot: number; readonly payloadOffset: number } {
  const perSlot = Math.ceil((keyBytes * STRIPES) / 4096) * 8;
  return { perSlot, payloadOffset: 8 + 8 * perSlot };
}

/** A new volume's header with slot 0 filled: all bytes from 0 up to the payload, and the master key. */
export async function format(
  wanted: LuksParameters,
  passphrase: Buffer,
): Promise<{ header: LuksHeader; bytes: Buffer; key: Buffer }> {
  const { perSlot, payloadOffset } = placesOf(wanted.keyBytes);
  const slots = Array.from({ length: 8 }, (_, index) => ({
    active: index === 0,
    iterations: index === 0 ? wanted.iterations : 0,
    salt: index === 0 ? randomBytes(32) : Buffer.alloc(32),
    materialOffset: 8 + index * perSlot,
    stripes: STRIPES,
  }));
  const key = randomBytes(wanted.keyBytes);
  const digestSalt = randomBytes(32);
  const digestIterations = Math.max(1000, Math.floor(wanted.iterations / 8));
  const digest = await derive(key, digestSalt, digestIterations, 20, wanted.hash);
  const header: LuksHeader = { ...wanted, payloadOffset, digest, digestSalt, digestIterations, slots };
  const bytes = Buffer.alloc(payloadOffset * LUKS_SECTOR);
  encodeLuksHeader(header).copy(bytes);
  const [first = { salt: randomBytes(32), iterations: wanted.iterations }] = slots;
  (await sealKey(header, key, passphrase, first)).copy(bytes, 8 * LUKS_SECTOR);
  return { header, bytes, key };
}

function merge(material: Buffer, keyBytes: number, hash: string): Buffer {
  const key = Buffer.alloc(keyBytes);
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    xorInto(key, material, stripe * keyBytes);
    if (stripe < STRIPES - 1) diffuse(key, hash);
  }
  return key;
}

function splitKey(key: Buffer, hash: string): Buffer {
  const out = Buffer.concat([randomBytes(key.length * (STRIPES - 1)), Buffer.alloc(key.length)]);
  const sum = Buffer.alloc(key.length);
  for (let stripe = 0; stripe < STRIPES - 1; stripe += 1) {
    xorInto(sum, out, stripe * key.length);
    diffuse(sum, hash);
  }
  xorInto(sum, key, 0);
  sum.copy(out, key.length * (STRIPES - 1));
  return out;
}

function xorInto(target: Buffer, source: Buffer, at: number): void {
  for (let index = 0; index < target.length; index += 1) {
    target[index] = (target[index] ?? 0) ^ (source[at + index] ?? 0);
  }
}

/** Each digest-sized piece is replaced by the hash of its number and itself, the last one cut. */
function diffuse(bytes: Buffer, hash: string): void {
  const number = Buffer.alloc(4);
  for (let at = 0, piece = 0, step = 0; at < bytes.length; at += step, piece += 1) {
    number.writeUInt32BE(piece);
    step = createHash(hash).digest().length;
    createHash(hash)
      .update(number)
      .update(bytes.subarray(at, at + step))
      .digest()
      .copy(bytes, at);
  }
}
