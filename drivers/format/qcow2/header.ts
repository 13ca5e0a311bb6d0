import { readU64, writeU64 } from './u64.ts';

export const MAGIC = 0x514649fb;
export const V2_LENGTH = 72;
/** Up to and with header_length. */
export const V3_LENGTH = 104;

/** Specification: "Header" and "Additional fields". `bits` are feature masks, the rest are numbers. */
export const HEADER_FIELDS = [
  { field: 'magic', offset: 0, width: 4, meaning: '"QFI" and 0xfb' },
  { field: 'version', offset: 4, width: 4, meaning: '2 or 3' },
  {
    field: 'backing_file_offset',
    offset: 8,
    width: 8,
    meaning: 'where the backing file name stands, 0 without one',
  },
  { field: 'backing_file_size', offset: 16, width: 4, meaning: 'length of that name, at most 1023' },
  { field: 'cluster_bits', offset: 20, width: 4, meaning: 'a cluster is 1 << cluster_bits bytes, 9 to 21' },
  { field: 'size', offset: 24, width: 8, meaning: 'bytes of the disk' },
  { field: 'crypt_method', offset: 32, width: 4, meaning: '0 none, 1 AES, 2 LUKS' },
  { field: 'l1_size', offset: 36, width: 4, meaning: 'entries of the active L1 table' },
  { field: 'l1_table_offset', offset: 40, width: 8, meaning: 'aligned to a cluster' },
  { field: 'refcount_table_offset', offset: 48, width: 8, meaning: 'aligned to a cluster' },
  {
    field: 'refcount_table_clusters',
    offset: 56,
    width: 4,
    meaning: 'clusters that the refcount table takes',
  },
  { field: 'nb_snapshots', offset: 60, width: 4, meaning: 'entries of the snapshot table' },
  { field: 'snapshots_offset', offset: 64, width: 8, meaning: 'aligned to a cluster' },
  {
    field: 'incompatible_features',
    offset: 72,
    width: 8,
    bits: true,
    meaning: 'unknown bit set: do not open',
  },
  { field: 'compatible_features', offset: 80, width: 8, bits: true, meaning: 'unknown bits are ignored' },
  {
    field: 'autoclear_features',
    offset: 88,
    width: 8,
    bits: true,
    meaning: 'unknown bits are cleared before writing',
  },
  {
    field: 'refcount_order',
    offset: 96,
    width: 4,
    meaning: 'a refcount has 1 << refcount_order bits, 0 to 6',
  },
  { field: 'header_length', offset: 100, width: 4, meaning: 'at least 104, a multiple of 8' },
  { field: 'compression_type', offset: 104, width: 1, meaning: '0 deflate, 1 zstd' },
] as const;

type Field = (typeof HEADER_FIELDS)[number];
type BitField = Extract<Field, { bits: true }>['field'];
export type HeaderFieldName = Field['field'];
export type Header = { [Name in HeaderFieldName]: Name extends BitField ? bigint : number };

/** What version 2 does not store, as the specification says to assume it; also absent additional fields. */
const ABSENT: Header = {
  magic: 0,
  version: 0,
  backing_file_offset: 0,
  backing_file_size: 0,
  cluster_bits: 0,
  size: 0,
  crypt_method: 0,
  l1_size: 0,
  l1_table_offset: 0,
  refcount_table_offset: 0,
  refcount_table_clusters: 0,
  nb_snapshots: 0,
  snapshots_offset: 0,
  incompatible_features: 0n,
  compatible_features: 0n,
  autoclear_features: 0n,
  refcount_order: 4,
  header_length: V2_LENGTH,
  compression_type: 0,
};

/** The fields as they stand in `bytes` (at least 112 of them, zero filled). Offsets over 2^53 are NaN. Checks nothing. */
export function decodeHeader(bytes: Buffer): Header {
  const header: Record<string, number | bigint> = { ...ABSENT };
  const isThree = bytes.readUInt32BE(4) >= 3;
  const length = isThree ? Math.max(V3_LENGTH, bytes.readUInt32BE(100)) : V2_LENGTH;
  for (const entry of HEADER_FIELDS) {
    if (entry.offset < length) header[entry.field] = readField(bytes, entry);
  }
  return header as Header;
}

/** Writes one field at its place. */
export function encodeField<Name extends HeaderFieldName>(
  bytes: Buffer,
  name: Name,
  value: Header[Name],
): void {
  const entry = HEADER_FIELDS.find(({ field }) => field === name);
  if (entry === undefined) return;
  if (typeof value === 'bigint') bytes.writeBigUInt64BE(value, entry.offset);
  else if (entry.width === 8) writeU64(bytes, value, entry.offset);
  else bytes.writeUIntBE(value, entry.offset, entry.width);
}

function readField(bytes: Buffer, entry: Field): number | bigint {
  if ('bits' in entry) return bytes.readBigUInt64BE(entry.offset);
  return entry.width === 8 ? readU64(bytes, entry.offset) : bytes.readUIntBE(entry.offset, entry.width);
}
