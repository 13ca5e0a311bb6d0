import { crc32c } from '../../../src/util/crc32c.ts';
import { decodeFields, encodeFields } from './fields.ts';
import type { Decoded } from './fields.ts';

export const KIB = 1024;
export const MIB = 1024 * 1024;

/** [MS-VHDX] 2.2: the first MiB of every file. */
export const FILE_SIGNATURE = 'vhdxfile';
export const HEADER_PLACES = [64 * KIB, 128 * KIB] as const;
export const REGION_PLACES = [192 * KIB, 256 * KIB] as const;
export const HEADER_LENGTH = 4 * KIB;
const HEADER_SIGNATURE = 'head';

/** [MS-VHDX] 2.2.2 */
export const HEADER_FIELDS = [
  { field: 'signature', offset: 0, kind: 'ascii4', meaning: '"head"' },
  { field: 'checksum', offset: 4, kind: 'u32', meaning: 'CRC-32C of the 4 KiB, this field taken as zero' },
  {
    field: 'sequence_number',
    offset: 8,
    kind: 'count64',
    meaning: 'the valid header with the higher one is current',
  },
  {
    field: 'file_write_guid',
    offset: 16,
    kind: 'guid',
    meaning: 'new for every session that writes to the file',
  },
  {
    field: 'data_write_guid',
    offset: 32,
    kind: 'guid',
    meaning: 'new when the content changes: children name it',
  },
  {
    field: 'log_guid',
    offset: 48,
    kind: 'guid',
    meaning: 'of the entries of the log; nil: nothing to replay',
  },
  { field: 'log_version', offset: 64, kind: 'u16', meaning: '0' },
  { field: 'version', offset: 66, kind: 'u16', meaning: '1' },
  { field: 'log_length', offset: 68, kind: 'u32', meaning: 'a multiple of 1 MiB' },
  { field: 'log_offset', offset: 72, kind: 'u64', meaning: 'a multiple of 1 MiB' },
] as const;

export type VhdxHeader = Decoded<typeof HEADER_FIELDS>;

/** The header in 4 KiB; undefined, and why in words, when it is not valid. */
export function decodeHeader(bytes: Buffer): VhdxHeader | string {
  const header = decodeFields(HEADER_FIELDS, bytes);
  if (header.signature !== HEADER_SIGNATURE)
    return `signature is ${JSON.stringify(header.signature)}, must be "head"`;
  const sum = sumWithout(bytes, 4);
  if (header.checksum !== sum)
    return `checksum is 0x${header.checksum.toString(16)}, must be 0x${sum.toString(16)}`;
  if (header.version !== 1) return `version is ${header.version}, must be 1`;
  return header;
}

/** 4 KiB with a right checksum. */
export function encodeHeader(header: VhdxHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  encodeFields(HEADER_FIELDS, { ...header, signature: HEADER_SIGNATURE, checksum: 0 }, bytes);
  bytes.writeUInt32LE(crc32c(bytes), 4);
  return bytes;
}

const NO_CHECKSUM = Buffer.alloc(4);

/** CRC-32C of a structure whose own checksum, at `checksumAt`, counts as zero. */
export function sumWithout(bytes: Buffer, checksumAt: number): number {
  const before = crc32c(bytes, 0, 0, checksumAt);
  return crc32c(bytes, crc32c(NO_CHECKSUM, before), checksumAt + 4);
}
