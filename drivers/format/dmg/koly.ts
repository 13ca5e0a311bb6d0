import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64BE, showU64 } from '../../../src/util/bytes.ts';

/** Universal disk image format: big-endian, the header stands at the end of the file. */
export const KOLY = 0x6b6f6c79;
export const KOLY_LENGTH = 512;
const XML_MAX = 32 * 1024 * 1024;

export const KOLY_FIELDS = [
  { field: 'magic', offset: 0, width: 4, meaning: '"koly"' },
  { field: 'version', offset: 4, width: 4, meaning: '4' },
  { field: 'header_size', offset: 8, width: 4, meaning: '512' },
  { field: 'flags', offset: 12, width: 4, meaning: 'bit 0: flattened' },
  { field: 'running_data_fork_offset', offset: 16, width: 8, meaning: 'of this segment in all of them' },
  { field: 'data_fork_offset', offset: 24, width: 8, meaning: 'where the chunks count from' },
  { field: 'data_fork_length', offset: 32, width: 8, meaning: 'bytes of the chunks' },
  { field: 'rsrc_fork_offset', offset: 40, width: 8, meaning: 'tables in an old image' },
  { field: 'rsrc_fork_length', offset: 48, width: 8, meaning: '0 without' },
  { field: 'segment_number', offset: 56, width: 4, meaning: 'from 1 on' },
  { field: 'segment_count', offset: 60, width: 4, meaning: 'files that the image is cut into' },
  {
    field: 'data_checksum_type',
    offset: 80,
    width: 4,
    meaning: 'of the chunks as they are stored; 2: CRC-32',
  },
  { field: 'xml_offset', offset: 216, width: 8, meaning: 'property list with the tables' },
  { field: 'xml_length', offset: 224, width: 8, meaning: '0 without' },
  {
    field: 'master_checksum_type',
    offset: 352,
    width: 4,
    meaning: 'of the checksums of the tables; 2: CRC-32',
  },
  { field: 'image_variant', offset: 488, width: 4, meaning: '1: a device, 2: a partition' },
  { field: 'sector_count', offset: 492, width: 8, meaning: 'sectors of the disk' },
] as const;

const DATA_CHECKSUM = 80;
const MASTER_CHECKSUM = 352;
const CRC32 = 2;

export interface Koly extends Record<(typeof KOLY_FIELDS)[number]['field'], number> {
  readonly dataChecksum: number | undefined;
  readonly masterChecksum: number | undefined;
}

/** A checksum: u32 type, u32 bits, then its value. Undefined where there is none, or one of another type. */
export function crcAt(bytes: Buffer, at: number): number | undefined {
  return bytes.readUInt32BE(at) === CRC32 && bytes.readUInt32BE(at + 4) === 32
    ? bytes.readUInt32BE(at + 8)
    : undefined;
}

export function readKoly(bytes: Buffer, fileSize: number, subject: string): Koly {
  const fields: Record<string, number> = {};
  for (const { field, offset, width } of KOLY_FIELDS) {
    fields[field] = width === 8 ? readU64BE(bytes, offset) : bytes.readUInt32BE(offset);
  }
  const koly = {
    ...(fields as Omit<Koly, 'dataChecksum' | 'masterChecksum'>),
    dataChecksum: crcAt(bytes, DATA_CHECKSUM),
    masterChecksum: crcAt(bytes, MASTER_CHECKSUM),
  };
  checkKoly(koly, bytes, fileSize, subject);
  return koly;
}

function checkKoly(koly: Koly, bytes: Buffer, fileSize: number, subject: string): void {
  if (koly.magic !== KOLY)
    refuseImage(subject, `magic is 0x${koly.magic.toString(16)}`, 'must be 0x6b6f6c79 ("koly")');
  if (koly.version !== 4) refuseImage(subject, `version is ${koly.version}`, 'must be 4', 'ENOTSUP');
  if (koly.header_size !== KOLY_LENGTH)
    refuseImage(subject, `header size is ${koly.header_size}`, `must be ${KOLY_LENGTH}`);
  if (koly.segment_count > 1) {
    refuseImage(
      subject,
      `the image is cut into ${koly.segment_count} segments`,
      'which is not supported',
      'ENOTSUP',
    );
  }
  for (const { field, offset, width } of KOLY_FIELDS) {
    if (width !== 8 || field === 'sector_count' || field === 'running_data_fork_offset') continue;
    if (koly[field] <= fileSize) continue;
    refuseImage(
      subject,
      `${field} is ${showU64(bytes, offset, false)}`,
      `must be at most the file's ${fileSize} bytes`,
    );
  }
  if (!(koly.sector_count <= 2 ** 43)) {
    refuseImage(subject, `sector_count is ${showU64(bytes, 492, false)}`, 'must be at most 2^43', 'EFBIG');
  }
  if (koly.xml_length > XML_MAX || koly.rsrc_fork_length > XML_MAX) {
    const length = Math.max(koly.xml_length, koly.rsrc_fork_length);
    refuseImage(subject, `the tables have ${length} bytes`, `must be at most ${XML_MAX}`, 'EFBIG');
  }
  if (koly.xml_length === 0 && koly.rsrc_fork_length === 0) {
    refuseImage(subject, 'xml_length and rsrc_fork_length are 0', 'one of them must hold the tables');
  }
}
