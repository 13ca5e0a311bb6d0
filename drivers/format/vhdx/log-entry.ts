/**
 * One entry of the log, [MS-VHDX] 2.3.1: sectors of 4 KiB,
 *
 *     [header, descriptors ...][descriptors ...] ... [data sector][data sector] ...
 *
 * A data descriptor says where the next data sector goes and keeps the 12 bytes of it that the sector's own marks cover.
 * The log is a ring: an entry may go on at its beginning.
 */
import { writeU64LE } from '../../../src/util/bytes.ts';
import { writeGuidMixed } from '../../../src/util/guid.ts';
import { crc32c } from '../../../src/util/crc32c.ts';
import { decodeFields } from './fields.ts';
import type { Decoded } from './fields.ts';
import { sumWithout } from './header.ts';

export const SECTOR = 4096;
const HEADER_LENGTH = 64;
const DESCRIPTOR_LENGTH = 32;
const WORD = 2n ** 32n;

export const ENTRY_FIELDS = [
  { field: 'signature', offset: 0, kind: 'ascii4', meaning: '"loge"' },
  { field: 'checksum', offset: 4, kind: 'u32', meaning: 'CRC-32C of the entry, this field taken as zero' },
  { field: 'entry_length', offset: 8, kind: 'u32', meaning: 'bytes, a multiple of 4 KiB' },
  { field: 'tail', offset: 12, kind: 'u32', meaning: 'where in the log the first entry to replay begins' },
  {
    field: 'sequence_number',
    offset: 16,
    kind: 'count64',
    meaning: 'one more than that of the entry before',
  },
  { field: 'descriptor_count', offset: 24, kind: 'u32', meaning: 'descriptors behind the header' },
  { field: 'log_guid', offset: 32, kind: 'guid', meaning: 'that of the header, or the entry is an old one' },
  {
    field: 'flushed_file_offset',
    offset: 48,
    kind: 'u64',
    meaning: 'the file had at least so many bytes, on stable storage',
  },
  {
    field: 'last_file_offset',
    offset: 56,
    kind: 'u64',
    meaning: 'the file must have so many bytes when it is replayed',
  },
] as const;

export type EntryHeader = Decoded<typeof ENTRY_FIELDS>;

/** A piece of the file that an entry changes: these bytes, or zeroes. */
export interface LogChange {
  readonly offset: number;
  readonly length: number;
  readonly bytes: Buffer | undefined;
}

export interface LogEntry extends EntryHeader {
  /** Where in the log it begins. */
  readonly at: number;
  readonly changes: readonly LogChange[];
}

/** The header of what stands at `at` of the log, if it may be an entry of this session; cheap, without the checksum. */
export function entryHeaderAt(log: Buffer, at: number, guid: string): EntryHeader | undefined {
  if (log.readUInt32LE(at) !== LOGE) return undefined;
  const header = decodeFields(ENTRY_FIELDS, log, at);
  const { entry_length: length, tail, sequence_number: sequence, descriptor_count: count } = header;
  const sane =
    length >= SECTOR &&
    length % SECTOR === 0 &&
    length <= log.length &&
    tail % SECTOR === 0 &&
    tail < log.length;
  if (!sane || sequence === 0n || header.log_guid !== guid) return undefined;
  return descriptorSectors(count) * SECTOR <= length ? header : undefined;
}

/** The whole entry behind a header; undefined when it is torn or broken. */
export function entryAt(log: Buffer, at: number, header: EntryHeader): LogEntry | undefined {
  const bytes = ringSlice(log, at, header.entry_length);
  if (header.checksum !== sumWithout(bytes, 4)) return undefined;
  const changes: LogChange[] = [];
  let dataAt = descriptorSectors(header.descriptor_count) * SECTOR;
  for (let index = 0; index < header.descriptor_count; index += 1) {
    const from = HEADER_LENGTH + index * DESCRIPTOR_LENGTH;
    const descriptor = decodeFields(DESCRIPTOR_FIELDS, bytes, from);
    if (descriptor.sequence_number !== header.sequence_number || !(descriptor.offset % SECTOR === 0))
      return undefined;
    if (descriptor.signature === 'zero') {
      const length = descriptor.leading;
      if (!(length % SECTOR === 0)) return undefined;
      changes.push({ offset: descriptor.offset, length, bytes: undefined });
    } else if (descriptor.signature === 'desc') {
      const sector = dataSector(bytes, dataAt, from, header.sequence_number);
      if (sector === undefined) return undefined;
      changes.push({ offset: descriptor.offset, length: SECTOR, bytes: sector });
      dataAt += SECTOR;
    } else {
      return undefined;
    }
  }
  return { ...header, at, changes };
}

export interface NewEntry {
  readonly guid: string;
  readonly sequence: bigint;
  readonly tail: number;
  readonly fileSize: number;
  /** Sectors of 4 KiB and where in the file they go. */
  readonly sectors: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

/** Bytes that an entry of so many data sectors takes. */
export const entryLength = (sectors: number): number => (descriptorSectors(sectors) + sectors) * SECTOR;

export function encodeEntry({ guid, sequence, tail, fileSize, sectors }: NewEntry): Buffer {
  const length = entryLength(sectors.length);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(LOGE, 0);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt32LE(tail, 12);
  bytes.writeBigUInt64LE(sequence, 16);
  bytes.writeUInt32LE(sectors.length, 24);
  writeGuidMixed(bytes, guid, 32);
  writeU64LE(bytes, fileSize, 48);
  writeU64LE(bytes, fileSize, 56);
  let at = descriptorSectors(sectors.length) * SECTOR;
  for (const [index, sector] of sectors.entries()) {
    const descriptor = HEADER_LENGTH + index * DESCRIPTOR_LENGTH;
    bytes.write('desc', descriptor, 'latin1');
    sector.bytes.copy(bytes, descriptor + 4, SECTOR - 4, SECTOR);
    sector.bytes.copy(bytes, descriptor + 8, 0, 8);
    writeU64LE(bytes, sector.offset, descriptor + 16);
    bytes.writeBigUInt64LE(sequence, descriptor + 24);
    bytes.write('data', at, 'latin1');
    bytes.writeUInt32LE(Number(sequence / WORD), at + 4);
    sector.bytes.copy(bytes, at + 8, 8, SECTOR - 4);
    bytes.writeUInt32LE(Number(sequence % WORD), at + SECTOR - 4);
    at += SECTOR;
  }
  bytes.writeUInt32LE(crc32c(bytes), 4);
  return bytes;
}

const LOGE = 0x65676f6c;

/** `leading`: for "desc" the first 8 bytes of the sector, for "zero" the length. `trailing`: the last 4 bytes. */
const DESCRIPTOR_FIELDS = [
  { field: 'signature', offset: 0, kind: 'ascii4', meaning: '"desc" or "zero"' },
  { field: 'leading', offset: 8, kind: 'u64', meaning: 'first bytes of the sector, or length of zeroes' },
  { field: 'offset', offset: 16, kind: 'u64', meaning: 'where in the file it goes, a multiple of 4 KiB' },
  { field: 'sequence_number', offset: 24, kind: 'count64', meaning: 'that of the entry' },
] as const;

const descriptorSectors = (count: number): number =>
  Math.ceil((HEADER_LENGTH + count * DESCRIPTOR_LENGTH) / SECTOR);

function dataSector(entry: Buffer, at: number, descriptor: number, sequence: bigint): Buffer | undefined {
  if (at + SECTOR > entry.length || entry.toString('latin1', at, at + 4) !== 'data') return undefined;
  const high = BigInt(entry.readUInt32LE(at + 4));
  const low = BigInt(entry.readUInt32LE(at + SECTOR - 4));
  if (high * WORD + low !== sequence) return undefined;
  const sector = Buffer.from(entry.subarray(at, at + SECTOR));
  entry.copy(sector, 0, descriptor + 8, descriptor + 16);
  entry.copy(sector, SECTOR - 4, descriptor + 4, descriptor + 8);
  return sector;
}

function ringSlice(log: Buffer, at: number, length: number): Buffer {
  if (at + length <= log.length) return log.subarray(at, at + length);
  return Buffer.concat([log.subarray(at), log.subarray(0, at + length - log.length)]);
}
