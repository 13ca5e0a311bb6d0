import { refuseImage } from '../../../src/block/refuse.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';
import { checksumOf, readField, writeField } from './fields.ts';
import type { FieldValue } from './fields.ts';

export const HEADER_LENGTH = 1024;
export const HEADER_COOKIE = 'cxsparse';
export const LOCATORS_AT = 576;

/** A block is copied as a whole when it gets a place: bounded. */
const BLOCK_MAX = 64 * 1024 * 1024;

/** "Dynamic Disk Header Format", of dynamic and differencing images. */
export const HEADER_FIELDS = [
  { field: 'cookie', offset: 0, kind: 'ascii8', meaning: '"cxsparse"' },
  { field: 'data_offset', offset: 8, kind: 'u64', meaning: 'none' },
  { field: 'table_offset', offset: 16, kind: 'u64', meaning: 'where the block allocation table begins' },
  { field: 'version', offset: 24, kind: 'u32', meaning: 'major << 16 | minor; 1.0' },
  { field: 'max_table_entries', offset: 28, kind: 'u32', meaning: 'blocks of the disk' },
  { field: 'block_size', offset: 32, kind: 'u32', meaning: 'bytes of guest data in a block' },
  { field: 'checksum', offset: 36, kind: 'u32', meaning: "ones' complement of the sum of all other bytes" },
  { field: 'parent_uuid', offset: 40, kind: 'guid', meaning: 'uuid of the parent' },
  { field: 'parent_timestamp', offset: 56, kind: 'u32', meaning: 'when the parent was changed last' },
  { field: 'parent_name', offset: 64, kind: 'utf16', meaning: 'file name of the parent' },
] as const;

type Field = (typeof HEADER_FIELDS)[number];
export type DynamicHeader = { -readonly [F in Field as F['field']]: FieldValue<F['kind']> };

/** The fields as they stand in 1024 bytes. Checks nothing. */
export function decodeHeader(bytes: Buffer): DynamicHeader {
  const header: Record<string, number | string> = {};
  for (const entry of HEADER_FIELDS) header[entry.field] = readField(bytes, entry);
  return header as DynamicHeader;
}

/** Fills 1024 bytes, which may hold locators, and sets the checksum. */
export function encodeHeader(bytes: Buffer, header: DynamicHeader): void {
  for (const entry of HEADER_FIELDS) writeField(bytes, entry, header[entry.field]);
  bytes.writeUInt32BE(headerChecksum(bytes), 36);
}

export const headerChecksum = (bytes: Buffer): number => checksumOf(bytes, 36);

/** Every rule that the header can break. @param diskSize bytes that the table must describe */
export function checkHeader(
  bytes: Buffer,
  header: DynamicHeader,
  image: { subject: string; diskSize: number; fileSize: number },
): void {
  const refuse = (is: string, wanted: string): never => refuseImage(image.subject, is, wanted);
  if (header.cookie !== HEADER_COOKIE)
    refuse(`the dynamic header's cookie is ${JSON.stringify(header.cookie)}`, `must be "${HEADER_COOKIE}"`);
  const sum = headerChecksum(bytes);
  if (header.checksum !== sum)
    refuse(`the dynamic header's checksum is ${header.checksum}`, `must be ${sum}`);
  const { block_size: unit, max_table_entries: blocks, table_offset: table } = header;
  if (!isPowerOfTwo(unit) || unit < 512 || unit > BLOCK_MAX) {
    refuse(`block_size is ${unit}`, `must be a power of two from 512 to ${BLOCK_MAX}`);
  }
  const needed = Math.ceil(image.diskSize / unit);
  if (blocks < needed)
    refuse(`max_table_entries is ${blocks}`, `must be at least ${needed} for ${image.diskSize} bytes`);
  if (Number.isNaN(table)) refuse('table_offset is over 2^53', 'must be less');
  const end = table + blocks * 4;
  if (end > image.fileSize)
    refuse(`the block allocation table ends at ${end}`, `must be inside the file of ${image.fileSize} bytes`);
}
