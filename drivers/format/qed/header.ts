import { BlockError } from '../../../src/block/errors.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE, showU64, writeU64LE } from '../../../src/util/bytes.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';

export const MAGIC = 0x00444551;
export const HEADER_LENGTH = 64;
export const FEATURES_OFFSET = 16;
export const AUTOCLEAR_OFFSET = 32;
export const IMAGE_SIZE_OFFSET = 48;
const BACKING_NAME_MAX = 1023;

/** Little-endian; specification: "Header". `bits` are feature masks, the rest are numbers. */
export const HEADER_FIELDS = [
  { field: 'magic', offset: 0, width: 4, meaning: '"QED" and NUL' },
  { field: 'cluster_size', offset: 4, width: 4, meaning: 'bytes, a power of two from 4 KiB to 64 MiB' },
  {
    field: 'table_size',
    offset: 8,
    width: 4,
    meaning: 'clusters of an L1 or L2 table, a power of two from 1 to 16',
  },
  { field: 'header_size', offset: 12, width: 4, meaning: 'clusters before the first regular one' },
  { field: 'features', offset: 16, width: 8, bits: true, meaning: 'unknown bit set: do not open' },
  { field: 'compat_features', offset: 24, width: 8, bits: true, meaning: 'unknown bits are ignored' },
  {
    field: 'autoclear_features',
    offset: 32,
    width: 8,
    bits: true,
    meaning: 'unknown bits are cleared before writing',
  },
  { field: 'l1_table_offset', offset: 40, width: 8, meaning: 'a multiple of cluster_size' },
  { field: 'image_size', offset: 48, width: 8, meaning: 'bytes of the disk, a multiple of 512' },
  {
    field: 'backing_filename_offset',
    offset: 56,
    width: 4,
    meaning: 'bytes from the start, inside the header clusters',
  },
  { field: 'backing_filename_size', offset: 60, width: 4, meaning: 'bytes of that name' },
] as const;

type Field = (typeof HEADER_FIELDS)[number];
type BitField = Extract<Field, { bits: true }>['field'];
export type Header = { [Name in Field['field']]: Name extends BitField ? bigint : number };

export const Feature = { backingFile: 1n, needCheck: 2n, backingIsRaw: 4n } as const;
const KNOWN_FEATURES = Feature.backingFile | Feature.needCheck | Feature.backingIsRaw;

export function decodeHeader(bytes: Buffer): Header {
  const header: Record<string, number | bigint> = {};
  for (const entry of HEADER_FIELDS) {
    if ('bits' in entry) header[entry.field] = bytes.readBigUInt64LE(entry.offset);
    else if (entry.width === 8) header[entry.field] = readU64LE(bytes, entry.offset);
    else header[entry.field] = bytes.readUInt32LE(entry.offset);
  }
  return header as Header;
}

export function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  for (const { field, offset, width } of HEADER_FIELDS) {
    const value = header[field];
    if (typeof value === 'bigint') bytes.writeBigUInt64LE(value, offset);
    else if (width === 8) writeU64LE(bytes, value, offset);
    else bytes.writeUInt32LE(value, offset);
  }
  return bytes;
}

/** Entries of one table. */
export const tableEntries = (header: Header): number => (header.table_size * header.cluster_size) / 8;

/** The largest disk that the tables of this geometry can hold. */
export function maxImageSize(header: Header): number {
  return Math.min(tableEntries(header) ** 2 * header.cluster_size, 2 ** 53 - 2 ** 30);
}

/** Refuses what breaks a rule of the specification, and what is not supported. */
export function checkHeader(bytes: Buffer, fileSize: number, subject: string): Header {
  const header = decodeHeader(bytes);
  const { cluster_size: cluster, table_size: table } = header;
  if (header.magic !== MAGIC)
    refuseImage(subject, `magic is 0x${header.magic.toString(16)}`, 'must be 0x444551');
  if (!isPowerOfTwo(cluster) || cluster < 2 ** 12 || cluster > 2 ** 26) {
    refuseImage(subject, `cluster_size is ${cluster}`, 'must be a power of two from 4096 to 67108864');
  }
  if (!isPowerOfTwo(table) || table > 16)
    refuseImage(subject, `table_size is ${table}`, 'must be 1, 2, 4, 8 or 16');
  const unknown = header.features & ~KNOWN_FEATURES;
  if (unknown !== 0n)
    refuseImage(
      subject,
      `features has unknown bits 0x${unknown.toString(16)}`,
      'which are not supported',
      'ENOTSUP',
    );
  checkPlaces(header, bytes, fileSize, subject);
  checkSize(header, bytes, subject);
  checkBackingName(header, subject);
  return header;
}

function checkPlaces(header: Header, bytes: Buffer, fileSize: number, subject: string): void {
  const { cluster_size: cluster, header_size: size, l1_table_offset: l1 } = header;
  if (size < 1 || size * cluster > fileSize) {
    refuseImage(subject, `header_size is ${size} clusters`, `must be 1 to ${Math.floor(fileSize / cluster)}`);
  }
  const tableBytes = header.table_size * cluster;
  if (l1 % cluster === 0 && l1 >= size * cluster && l1 + tableBytes <= fileSize) return;
  const wanted = `must be a multiple of ${cluster} from ${size * cluster} to ${fileSize - tableBytes}`;
  refuseImage(subject, `l1_table_offset is ${showU64(bytes, 40, true)}`, wanted);
}

function checkSize(header: Header, bytes: Buffer, subject: string): void {
  const { image_size: size } = header;
  const max = maxImageSize(header);
  if (size <= max && size % 512 === 0) return;
  refuseImage(subject, `image_size is ${showU64(bytes, 48, true)}`, `must be a multiple of 512 up to ${max}`);
}

function checkBackingName(header: Header, subject: string): void {
  if ((header.features & Feature.backingFile) === 0n) return;
  const { backing_filename_offset: offset, backing_filename_size: length } = header;
  const end = header.header_size * header.cluster_size;
  if (length < 1 || length > BACKING_NAME_MAX) {
    refuseImage(subject, `backing_filename_size is ${length}`, `must be 1 to ${BACKING_NAME_MAX}`);
  }
  if (offset < HEADER_LENGTH || offset + length > end) {
    refuseImage(
      subject,
      `backing_filename_offset is ${offset}`,
      `must be ${HEADER_LENGTH} to ${end - length}`,
    );
  }
}

export function sizeError(subject: string, size: number, header: Header): BlockError {
  const text = `Cannot resize "${subject}": ${size} bytes, must be a multiple of 512 up to ${maxImageSize(header)}`;
  return new BlockError('EINVAL', text);
}
