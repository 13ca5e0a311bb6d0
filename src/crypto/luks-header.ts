/** LUKS1 partition header: bytes in, fields out. LUKS On-Disk Format Specification 1.2.3, section 2 (figures 1 and 2). */
import { BlockError } from '../block/errors.ts';

export const LUKS_HEADER_BYTES = 592;
export const LUKS_SECTOR = 512;
const MAGIC = Buffer.from([0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]);
const SLOTS = 8;
const ACTIVE = 0x00ac71f3;
const INACTIVE = 0x0000dead;
const DIGEST_BYTES = 20;
const SALT_BYTES = 32;
const SLOTS_AT = 208;
const SLOT_BYTES = 48;

export interface LuksKeySlot {
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Buffer;
  /** Sectors from the start of the header. */
  readonly materialOffset: number;
  readonly stripes: number;
}

export interface LuksHeader {
  readonly cipherName: string;
  readonly cipherMode: string;
  readonly hash: string;
  /** Sectors. */
  readonly payloadOffset: number;
  readonly keyBytes: number;
  readonly digest: Buffer;
  readonly digestSalt: Buffer;
  readonly digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly LuksKeySlot[];
}

export function isLuks(head: Buffer): boolean {
  return head.length >= 8 && head.subarray(0, 6).equals(MAGIC) && head.readUInt16BE(6) === 1;
}

/** @param size bytes of the file: key material has to lie inside */
export function decodeLuksHeader(head: Buffer, subject: string, size: number): LuksHeader {
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot open LUKS image "${subject}": ${why}`);
  };
  if (head.length < LUKS_HEADER_BYTES)
    refuse(`the header has ${head.length} bytes, must be ${LUKS_HEADER_BYTES}`);
  if (!head.subarray(0, 6).equals(MAGIC)) refuse('the magic is wrong');
  const version = head.readUInt16BE(6);
  if (version !== 1) refuse(`it is LUKS${version}, only LUKS1 is supported`);
  const keyBytes = head.readUInt32BE(108);
  if (![16, 24, 32, 64].includes(keyBytes)) refuse(`key-bytes is ${keyBytes}, must be 16, 24, 32 or 64`);
  const header: LuksHeader = {
    cipherName: text(head, 8, 32),
    cipherMode: text(head, 40, 32),
    hash: text(head, 72, 32),
    payloadOffset: head.readUInt32BE(104),
    keyBytes,
    digest: Buffer.from(head.subarray(112, 112 + DIGEST_BYTES)),
    digestSalt: Buffer.from(head.subarray(132, 132 + SALT_BYTES)),
    digestIterations: head.readUInt32BE(164),
    uuid: text(head, 168, 40),
    slots: Array.from({ length: SLOTS }, (_, index) => decodeSlot(head, slotEntryAt(index))),
  };
  if (header.digestIterations === 0) refuse('mk-digest-iter is 0');
  for (const [index, slot] of header.slots.entries()) {
    if (!slot.active) continue;
    const end = slot.materialOffset * LUKS_SECTOR + slot.stripes * keyBytes;
    if (slot.stripes !== 4000) refuse(`key slot ${index} has ${slot.stripes} stripes, must be 4000`);
    if (end > size)
      refuse(`the key material of slot ${index} ends at ${end}, past the end of the file at ${size}`);
    if (slot.iterations === 0) refuse(`key slot ${index} has 0 iterations`);
  }
  return header;
}

export function encodeLuksHeader(header: LuksHeader): Buffer {
  const out = Buffer.alloc(LUKS_HEADER_BYTES);
  MAGIC.copy(out);
  out.writeUInt16BE(1, 6);
  out.write(header.cipherName, 8, 31, 'latin1');
  out.write(header.cipherMode, 40, 31, 'latin1');
  out.write(header.hash, 72, 31, 'latin1');
  out.writeUInt32BE(header.payloadOffset, 104);
  out.writeUInt32BE(header.keyBytes, 108);
  header.digest.copy(out, 112, 0, DIGEST_BYTES);
  header.digestSalt.copy(out, 132, 0, SALT_BYTES);
  out.writeUInt32BE(header.digestIterations, 164);
  out.write(header.uuid, 168, 39, 'latin1');
  for (const [index, slot] of header.slots.entries()) encodeSlot(out, slotEntryAt(index), slot);
  return out;
}

function decodeSlot(head: Buffer, at: number): LuksKeySlot {
  return {
    active: head.readUInt32BE(at) === ACTIVE,
    iterations: head.readUInt32BE(at + 4),
    salt: Buffer.from(head.subarray(at + 8, at + 8 + SALT_BYTES)),
    materialOffset: head.readUInt32BE(at + 40),
    stripes: head.readUInt32BE(at + 44),
  };
}

/** Byte offset of a key slot's entry in the header; its first four bytes say whether it is active. */
export const slotEntryAt = (index: number): number => SLOTS_AT + index * SLOT_BYTES;

export function encodeSlotEntry(slot: LuksKeySlot): Buffer {
  const out = Buffer.alloc(SLOT_BYTES);
  encodeSlot(out, 0, slot);
  return out;
}

/** The first four bytes of the entry. */
export function encodeSlotState(active: boolean): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(active ? ACTIVE : INACTIVE);
  return out;
}

function encodeSlot(out: Buffer, at: number, slot: LuksKeySlot): void {
  out.writeUInt32BE(slot.active ? ACTIVE : INACTIVE, at);
  out.writeUInt32BE(slot.iterations, at + 4);
  slot.salt.copy(out, at + 8, 0, SALT_BYTES);
  out.writeUInt32BE(slot.materialOffset, at + 40);
  out.writeUInt32BE(slot.stripes, at + 44);
}

function text(bytes: Buffer, at: number, length: number): string {
  const end = bytes.subarray(at, at + length).indexOf(0);
  return bytes.toString('latin1', at, at + (end < 0 ? length : end));
}
