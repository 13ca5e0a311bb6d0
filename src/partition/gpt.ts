/** GUID partition tables: UEFI specification 2.10, section 5.3 (header: table 5-5, entries: table 5-6). */
import { crc32 } from 'node:zlib';
import type { Partition, PartitionTable, ReadSectors } from './table.ts';
import { SECTOR_SIZES } from './table.ts';
import { gptTypeName } from './type-names.ts';

const SIGNATURE = 'EFI PART';
const HEADER_BYTES = 92;
/** More than any tool makes (128): the array is read whole. */
const MAX_ENTRIES = 4096;
const MAX_ENTRY_BYTES = 4096;
const ZERO_GUID = '00000000-0000-0000-0000-000000000000';

interface Header {
  readonly entriesAt: number;
  readonly count: number;
  readonly entryBytes: number;
  readonly entriesCrc: number;
}

/** The primary table, or the backup at the end of the disk when the primary is damaged. */
export async function readGpt(read: ReadSectors, size: number): Promise<PartitionTable | undefined> {
  for (const sectorSize of SECTOR_SIZES) {
    const warnings: string[] = [];
    const primary = await readAt(read, sectorSize, sectorSize);
    if (primary.partitions !== undefined)
      return { scheme: 'gpt', sectorSize, partitions: primary.partitions, warnings };
    const last = size - (size % sectorSize) - sectorSize;
    const backup = last > sectorSize ? await readAt(read, last, sectorSize) : undefined;
    if (backup?.partitions === undefined) continue;
    warnings.push(
      `the primary GPT is not usable (${primary.why}): the backup at the end of the disk is used`,
    );
    return { scheme: 'gpt', sectorSize, partitions: backup.partitions, warnings };
  }
  return undefined;
}

async function readAt(
  read: ReadSectors,
  at: number,
  sectorSize: number,
): Promise<{ partitions?: Partition[]; why: string }> {
  const header = parseHeader(await read(at, sectorSize), at, sectorSize);
  if (typeof header === 'string') return { why: header };
  const entries = await read(header.entriesAt, header.count * header.entryBytes);
  if (entries.length < header.count * header.entryBytes) return { why: 'its entries lie outside the disk' };
  if (crc32(entries) !== header.entriesCrc) return { why: 'the checksum of its entries is wrong' };
  const partitions: Partition[] = [];
  for (let index = 0; index < header.count; index += 1) {
    const entry = entries.subarray(index * header.entryBytes, (index + 1) * header.entryBytes);
    const partition = parseEntry(entry, index + 1, sectorSize);
    if (partition !== undefined) partitions.push(partition);
  }
  return { partitions, why: '' };
}

function parseHeader(sector: Buffer, at: number, sectorSize: number): Header | string {
  if (sector.length < HEADER_BYTES || sector.toString('latin1', 0, 8) !== SIGNATURE)
    return 'there is no signature';
  const bytes = sector.readUInt32LE(12);
  if (bytes < HEADER_BYTES || bytes > sector.length) return `its header size is ${bytes}`;
  const copy = Buffer.from(sector.subarray(0, bytes));
  copy.writeUInt32LE(0, 16);
  if (crc32(copy) !== sector.readUInt32LE(16)) return 'the checksum of its header is wrong';
  if (Number(sector.readBigUInt64LE(24)) * sectorSize !== at) return 'it belongs to another place';
  const count = sector.readUInt32LE(80);
  const entryBytes = sector.readUInt32LE(84);
  if (count > MAX_ENTRIES || entryBytes < 128 || entryBytes > MAX_ENTRY_BYTES) {
    return `it has ${count} entries of ${entryBytes} bytes`;
  }
  const entriesAt = Number(sector.readBigUInt64LE(72)) * sectorSize;
  if (!Number.isSafeInteger(entriesAt)) return 'its entries lie outside the disk';
  return { entriesAt, count, entryBytes, entriesCrc: sector.readUInt32LE(88) };
}

function parseEntry(entry: Buffer, number: number, sectorSize: number): Partition | undefined {
  const type = guid(entry, 0);
  if (type === ZERO_GUID) return undefined;
  const first = Number(entry.readBigUInt64LE(32));
  const last = Number(entry.readBigUInt64LE(40));
  const name = entry.toString('utf16le', 56, 128).replace(/\0.*$/s, '');
  const offset = first * sectorSize;
  const length = (last - first + 1) * sectorSize;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(offset + length)) return undefined;
  return {
    number,
    offset,
    length,
    type,
    typeName: gptTypeName(type),
    name,
    uuid: guid(entry, 16),
    extended: false,
  };
}

/** The mixed-endian form: the first three fields are little endian. */
function guid(bytes: Buffer, at: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const tail = bytes.toString('hex', at + 8, at + 16);
  const head = [
    hex(bytes.readUInt32LE(at), 8),
    hex(bytes.readUInt16LE(at + 4), 4),
    hex(bytes.readUInt16LE(at + 6), 4),
  ];
  return [...head, tail.slice(0, 4), tail.slice(4)].join('-').toUpperCase();
}
