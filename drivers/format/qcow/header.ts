import { refuseImage } from '../../../src/block/refuse.ts';
import { CIPHER_SECTOR } from '../../../src/crypto/sector-cipher.ts';
import { readU64BE, showU64, writeU64BE } from '../../../src/util/bytes.ts';
import { CryptMethod } from './encryption.ts';

export const MAGIC = 0x514649fb;
export const HEADER_LENGTH = 48;
const BACKING_NAME_MAX = 1023;

/** Version 1, big-endian. */
export const HEADER_FIELDS = [
  { field: 'magic', offset: 0, width: 4, meaning: '"QFI" and 0xfb' },
  { field: 'version', offset: 4, width: 4, meaning: '1' },
  {
    field: 'backing_file_offset',
    offset: 8,
    width: 8,
    meaning: 'where the backing file name stands, 0 without one',
  },
  { field: 'backing_file_size', offset: 16, width: 4, meaning: 'length of that name, at most 1023' },
  { field: 'mtime', offset: 20, width: 4, meaning: 'modification time of the backing file; not used' },
  { field: 'size', offset: 24, width: 8, meaning: 'bytes of the disk' },
  { field: 'cluster_bits', offset: 32, width: 1, meaning: 'a cluster is 1 << cluster_bits bytes, 9 to 16' },
  { field: 'l2_bits', offset: 33, width: 1, meaning: 'an L2 table has 1 << l2_bits entries, 6 to 13' },
  { field: 'crypt_method', offset: 36, width: 4, meaning: '0 none, 1 AES' },
  { field: 'l1_table_offset', offset: 40, width: 8, meaning: 'behind the header' },
] as const;

export type Header = Record<(typeof HEADER_FIELDS)[number]['field'], number>;

export interface Geometry {
  readonly size: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly l2Entries: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
}

export function decodeHeader(bytes: Buffer): Header {
  const header: Record<string, number> = {};
  for (const { field, offset, width } of HEADER_FIELDS) {
    header[field] = width === 8 ? readU64BE(bytes, offset) : bytes.readUIntBE(offset, width);
  }
  return header as Header;
}

export function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  for (const { field, offset, width } of HEADER_FIELDS) {
    if (width === 8) writeU64BE(bytes, header[field], offset);
    else bytes.writeUIntBE(header[field], offset, width);
  }
  return bytes;
}

/** Entries of the L1 table for a disk of `size` bytes. */
export function l1EntriesFor(size: number, clusterBits: number, l2Bits: number): number {
  return Math.ceil(size / 2 ** (clusterBits + l2Bits));
}

/** Refuses what breaks a rule of the format, and what is not supported. @param bytes the first 48 bytes of the file */
export function checkHeader(bytes: Buffer, fileSize: number, subject: string): Geometry {
  const header = decodeHeader(bytes);
  const { cluster_bits: clusterBits, l2_bits: l2Bits, size } = header;
  if (header.magic !== MAGIC)
    refuseImage(subject, `magic is 0x${header.magic.toString(16)}`, 'must be 0x514649fb');
  if (header.version !== 1) refuseImage(subject, `version is ${header.version}`, 'must be 1', 'ENOTSUP');
  if (clusterBits < 9 || clusterBits > 16)
    refuseImage(subject, `cluster_bits is ${clusterBits}`, 'must be 9 to 16');
  if (l2Bits < 6 || l2Bits > 13) refuseImage(subject, `l2_bits is ${l2Bits}`, 'must be 6 to 13');
  if (header.crypt_method > CryptMethod.aes)
    refuseImage(subject, `crypt_method is ${header.crypt_method}`, 'must be 0 or 1');
  if (header.crypt_method === CryptMethod.aes && size % CIPHER_SECTOR !== 0)
    refuseImage(subject, `size is ${size}`, `must be a multiple of ${CIPHER_SECTOR} in an encrypted image`);
  if (!(size > 0 && size <= 2 ** 53 - 2 ** 30)) {
    refuseImage(subject, `size is ${showU64(bytes, 24, false)}`, 'must be 1 to 2^53 - 2^30 bytes', 'EFBIG');
  }
  checkBackingName(header, subject);
  const l1Entries = l1EntriesFor(size, clusterBits, l2Bits);
  const l1Offset = header.l1_table_offset;
  if (!(l1Offset >= HEADER_LENGTH && l1Offset + l1Entries * 8 <= fileSize) || l1Offset % 8 !== 0) {
    const wanted = `must be a multiple of 8 from ${HEADER_LENGTH} on, its ${l1Entries} entries inside the file (${fileSize} bytes)`;
    refuseImage(subject, `l1_table_offset is ${showU64(bytes, 40, false)}`, wanted);
  }
  return { size, clusterBits, clusterSize: 2 ** clusterBits, l2Entries: 2 ** l2Bits, l1Entries, l1Offset };
}

function checkBackingName(header: Header, subject: string): void {
  const { backing_file_offset: offset, backing_file_size: length } = header;
  if (offset === 0) return;
  if (!(offset >= HEADER_LENGTH && offset < 2 ** 32)) {
    refuseImage(subject, `backing_file_offset is ${offset}`, `must be ${HEADER_LENGTH} to 2^32`);
  }
  if (length < 1 || length > BACKING_NAME_MAX) {
    refuseImage(subject, `backing_file_size is ${length}`, `must be 1 to ${BACKING_NAME_MAX}`);
  }
}
