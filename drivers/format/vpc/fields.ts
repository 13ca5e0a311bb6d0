import { readU64BE, writeU64BE } from '../../../src/util/bytes.ts';
import { readGuid, writeGuid } from '../../../src/util/guid.ts';

/** How a field is stored; all numbers are big-endian. u64 over 2^53 is NaN: so is "none", eight bytes of 0xff.
 * `rest`: all bytes to the end, one a character. */
export type FieldKind = 'u8' | 'u16' | 'u32' | 'u64' | 'guid' | 'ascii4' | 'ascii8' | 'utf16' | 'rest';

export interface FieldEntry {
  readonly field: string;
  readonly offset: number;
  readonly kind: FieldKind;
  readonly meaning: string;
}

export type FieldValue<Kind extends FieldKind> = Kind extends 'u8' | 'u16' | 'u32' | 'u64' ? number : string;

const NAME_LENGTH = 512;

export function readField(bytes: Buffer, { kind, offset }: FieldEntry): number | string {
  switch (kind) {
    case 'u8':
      return bytes.readUInt8(offset);
    case 'u16':
      return bytes.readUInt16BE(offset);
    case 'u32':
      return bytes.readUInt32BE(offset);
    case 'u64':
      return readU64BE(bytes, offset);
    case 'guid':
      return readGuid(bytes, offset);
    case 'ascii4':
      return bytes.toString('latin1', offset, offset + 4);
    case 'ascii8':
      return bytes.toString('latin1', offset, offset + 8);
    case 'rest':
      return bytes.toString('latin1', offset);
    case 'utf16':
      return readName(bytes.subarray(offset, offset + NAME_LENGTH));
  }
}

export function writeField(bytes: Buffer, { kind, offset }: FieldEntry, value: number | string): void {
  if (typeof value === 'string') writeText(bytes, kind, offset, value);
  else if (kind === 'u8') bytes.writeUInt8(value, offset);
  else if (kind === 'u16') bytes.writeUInt16BE(value, offset);
  else if (kind === 'u32') bytes.writeUInt32BE(value, offset);
  else if (Number.isNaN(value)) bytes.fill(0xff, offset, offset + 8);
  else writeU64BE(bytes, value, offset);
}

/** The ones' complement of the sum of all bytes, the checksum field itself taken as zero. */
export function checksumOf(bytes: Buffer, checksumAt: number): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  for (let at = checksumAt; at < checksumAt + 4; at += 1) sum -= bytes[at] ?? 0;
  return ~sum >>> 0;
}

function writeText(bytes: Buffer, kind: FieldKind, offset: number, value: string): void {
  if (kind === 'guid') writeGuid(bytes, value, offset);
  else if (kind === 'utf16')
    Buffer.from(value, 'utf16le')
      .swap16()
      .copy(bytes, offset, 0, NAME_LENGTH - 2);
  else if (kind === 'rest') bytes.write(value, offset, 'latin1');
  else bytes.write(value, offset, kind === 'ascii4' ? 4 : 8, 'latin1');
}

function readName(field: Buffer): string {
  const [name = ''] = Buffer.from(field).swap16().toString('utf16le').split('\0');
  return name;
}
