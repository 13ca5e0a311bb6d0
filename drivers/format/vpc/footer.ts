import { checksumOf, readField, writeField } from './fields.ts';
import type { FieldValue } from './fields.ts';

export const FOOTER_LENGTH = 512;
export const COOKIE = 'conectix';
export const DiskType = { fixed: 2, dynamic: 3, differencing: 4 } as const;
export const TYPE_NAMES: Readonly<Record<number, string>> = { 2: 'fixed', 3: 'dynamic', 4: 'differencing' };

/** Seconds from 1970 to 2000: what time stamps count from. */
const EPOCH = 946_684_800;

/** "Hard Disk Footer Format". Dynamic and differencing images have a copy of it as their first 512 bytes. */
export const FOOTER_FIELDS = [
  { field: 'cookie', offset: 0, kind: 'ascii8', meaning: '"conectix"' },
  { field: 'features', offset: 8, kind: 'u32', meaning: 'bit 0: temporary disk; bit 1: always set' },
  { field: 'version', offset: 12, kind: 'u32', meaning: 'major << 16 | minor; 1.0' },
  {
    field: 'data_offset',
    offset: 16,
    kind: 'u64',
    meaning: 'where the dynamic header stands; none in a fixed image',
  },
  { field: 'timestamp', offset: 24, kind: 'u32', meaning: 'seconds since 2000' },
  { field: 'creator_app', offset: 28, kind: 'ascii4', meaning: 'program that made the image' },
  { field: 'creator_version', offset: 32, kind: 'u32', meaning: 'its version, major << 16 | minor' },
  { field: 'creator_os', offset: 36, kind: 'ascii4', meaning: '"Wi2k" or "Mac "' },
  { field: 'original_size', offset: 40, kind: 'u64', meaning: 'bytes of the disk when it was made' },
  { field: 'current_size', offset: 48, kind: 'u64', meaning: 'bytes of the disk' },
  { field: 'cylinders', offset: 56, kind: 'u16', meaning: 'geometry that an ATA controller shows' },
  { field: 'heads', offset: 58, kind: 'u8', meaning: 'geometry' },
  { field: 'sectors', offset: 59, kind: 'u8', meaning: 'geometry: sectors of a track' },
  { field: 'type', offset: 60, kind: 'u32', meaning: '2 fixed, 3 dynamic, 4 differencing' },
  { field: 'checksum', offset: 64, kind: 'u32', meaning: "ones' complement of the sum of all other bytes" },
  { field: 'uuid', offset: 68, kind: 'guid', meaning: 'of this image; a child names its parent by it' },
  { field: 'saved_state', offset: 84, kind: 'u8', meaning: '1: the virtual machine is suspended' },
  { field: 'reserved', offset: 85, kind: 'rest', meaning: 'other programs keep things of theirs here' },
] as const;

type Field = (typeof FOOTER_FIELDS)[number];
export type Footer = { -readonly [F in Field as F['field']]: FieldValue<F['kind']> };

/** The fields as they stand in 512 bytes. Checks nothing. */
export function decodeFooter(bytes: Buffer): Footer {
  const footer: Record<string, number | string> = {};
  for (const entry of FOOTER_FIELDS) footer[entry.field] = readField(bytes, entry);
  return footer as Footer;
}

/** 512 bytes with a right checksum. */
export function encodeFooter(footer: Footer): Buffer {
  const bytes = Buffer.alloc(FOOTER_LENGTH);
  for (const entry of FOOTER_FIELDS) writeField(bytes, entry, footer[entry.field]);
  bytes.writeUInt32BE(footerChecksum(bytes), 64);
  return bytes;
}

export const footerChecksum = (bytes: Buffer): number => checksumOf(bytes, 64);

/** Whether 512 bytes are a footer that can be trusted. */
export function isFooter(bytes: Buffer): boolean {
  if (bytes.length !== FOOTER_LENGTH || bytes.toString('latin1', 0, 8) !== COOKIE) return false;
  return bytes.readUInt32BE(64) === footerChecksum(bytes);
}

/** A time in milliseconds since 1970 as time stamps of the format count it. */
export const timestampOf = (time: number): number => Math.max(0, Math.floor(time / 1000) - EPOCH);

export const timestampNow = (): number => timestampOf(Date.now());

export const timeOf = (timestamp: number): Date => new Date((timestamp + EPOCH) * 1000);
