import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE, writeU64LE } from '../../../src/util/bytes.ts';
import { alignUp } from '../../../src/util/sizes.ts';

export const SECTOR = 512;
export const HEADER_LENGTH = 64;
export const MAGIC_V1 = 'WithoutFreeSpace';
export const MAGIC_V2 = 'WithouFreSpacExt';
export const IN_USE_OFFSET = 44;
export const FLAGS_OFFSET = 52;
/** Values of in_use: opened for writing, closed, closed by software that knows no format extension. */
export const InUse = { open: 0x746f6e59, closed: 0x312e3276, closedPlain: 0 } as const;
/** In sectors: 1 GiB. */
const TRACKS_MAX = 2 ** 21;

/** Little-endian; specification: "Header", behind the 16 bytes of magic. */
export const HEADER_FIELDS = [
  { field: 'version', offset: 16, width: 4, meaning: '2' },
  { field: 'heads', offset: 20, width: 4, meaning: 'geometry for the guest' },
  { field: 'cylinders', offset: 24, width: 4, meaning: 'geometry for the guest' },
  { field: 'tracks', offset: 28, width: 4, meaning: 'sectors of a cluster' },
  { field: 'nb_bat_entries', offset: 32, width: 4, meaning: 'clusters of the disk' },
  { field: 'nb_sectors', offset: 36, width: 8, meaning: 'sectors of the disk; the low 4 bytes in version 1' },
  { field: 'in_use', offset: 44, width: 4, meaning: 'opened for writing, or closed' },
  {
    field: 'data_off',
    offset: 48,
    width: 4,
    meaning: 'sector where the clusters begin; 0: behind the BAT (version 1 only)',
  },
  { field: 'flags', offset: 52, width: 4, meaning: 'bit 0: the image is empty' },
  { field: 'ext_off', offset: 56, width: 8, meaning: 'sector of the format extension, 0 without one' },
] as const;

export type Header = Record<(typeof HEADER_FIELDS)[number]['field'], number> & { readonly magic: string };

export interface Geometry {
  /** Bytes, all of them. */
  readonly size: number;
  readonly clusterSize: number;
  readonly batEntries: number;
  /** What a BAT entry counts in. */
  readonly entryUnit: number;
  /** Where clusters begin: every cluster is whole clusters away from it. */
  readonly dataOffset: number;
}

export function decodeHeader(bytes: Buffer): Header {
  const header: Record<string, number | string> = { magic: bytes.toString('latin1', 0, 16) };
  for (const { field, offset, width } of HEADER_FIELDS) {
    header[field] = width === 8 ? readU64LE(bytes, offset) : bytes.readUInt32LE(offset);
  }
  if (header['magic'] === MAGIC_V1) header['nb_sectors'] = bytes.readUInt32LE(36);
  return header as Header;
}

export function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  bytes.write(header.magic, 'latin1');
  for (const { field, offset, width } of HEADER_FIELDS) {
    if (width === 8) writeU64LE(bytes, header[field], offset);
    else bytes.writeUInt32LE(header[field], offset);
  }
  return bytes;
}

/** Refuses what breaks a rule of the specification. */
export function checkHeader(header: Header, fileSize: number, subject: string): Geometry {
  const { magic, version, tracks, nb_bat_entries: batEntries, nb_sectors: sectors } = header;
  if (magic !== MAGIC_V1 && magic !== MAGIC_V2) {
    refuseImage(subject, `magic is ${JSON.stringify(magic)}`, `must be "${MAGIC_V1}" or "${MAGIC_V2}"`);
  }
  if (version !== 2) refuseImage(subject, `version is ${version}`, 'must be 2', 'ENOTSUP');
  if (tracks < 1 || tracks > TRACKS_MAX)
    refuseImage(subject, `tracks is ${tracks}`, `must be 1 to ${TRACKS_MAX}`);
  if (!(sectors * SECTOR <= 2 ** 53 - 2 ** 40))
    refuseImage(subject, `nb_sectors is ${sectors}`, 'must be below 2^44', 'EFBIG');
  if (batEntries * tracks < sectors) {
    refuseImage(
      subject,
      `nb_bat_entries is ${batEntries}`,
      `must be at least ${Math.ceil(sectors / tracks)} for ${sectors} sectors`,
    );
  }
  const inUse: readonly number[] = Object.values(InUse);
  if (!inUse.includes(header.in_use)) {
    refuseImage(subject, `in_use is 0x${header.in_use.toString(16)}`, 'must be 0, 0x312e3276 or 0x746f6e59');
  }
  const dataOffset = checkDataOffset(header, fileSize, subject);
  const entryUnit = magic === MAGIC_V2 ? tracks * SECTOR : SECTOR;
  return { size: sectors * SECTOR, clusterSize: tracks * SECTOR, batEntries, entryUnit, dataOffset };
}

function checkDataOffset(header: Header, fileSize: number, subject: string): number {
  const batEnd = HEADER_LENGTH + header.nb_bat_entries * 4;
  if (batEnd > fileSize) {
    refuseImage(
      subject,
      `nb_bat_entries is ${header.nb_bat_entries}`,
      `the BAT must end inside the file (${fileSize} bytes)`,
    );
  }
  const { data_off: given, magic, tracks } = header;
  if (given === 0 && magic === MAGIC_V1) return alignUp(batEnd, SECTOR);
  const least = Math.ceil(batEnd / SECTOR);
  if (given < least)
    refuseImage(subject, `data_off is ${given}`, `must be at least ${least}, the end of the BAT`);
  if (magic === MAGIC_V2 && given % tracks !== 0) {
    refuseImage(subject, `data_off is ${given}`, `must be a multiple of the cluster size, ${tracks} sectors`);
  }
  return given * SECTOR;
}
