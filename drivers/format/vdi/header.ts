import { readU64LE, writeU64LE } from '../../../src/util/bytes.ts';
import { readGuidMixed, writeGuidMixed } from '../../../src/util/guid.ts';

export const SIGNATURE = 0xbeda107f;
export const HEADER_LENGTH = 512;
export const HEADER_END = 0x1d8;
/** header_size counts from its own field. */
export const HEADER_SIZE_AT = 0x48;

export const ImageType = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 } as const;
export const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: 'dynamic',
  2: 'fixed',
  3: 'undo',
  4: 'differencing',
};

/** A map larger than this (256 MiB) is not searched for free places: such an image is only read, and none is made. */
export const BLOCKS_MAX = 64 * 1024 * 1024;

/** Whether what the image does not hold is in its parent. */
export function isOverlay(header: Pick<VdiHeader, 'image_type'>): boolean {
  return header.image_type === ImageType.differencing || header.image_type === ImageType.undo;
}

/** Block map entries that name no place. */
export const Entry = { unallocated: 0xffffffff, zero: 0xfffffffe } as const;

/** The header of version 1.1, little-endian. `kind` is how a field is stored. */
export const HEADER_FIELDS = [
  { field: 'signature', offset: 0x40, kind: 'u32', meaning: '0xbeda107f' },
  { field: 'version', offset: 0x44, kind: 'u32', meaning: 'major << 16 | minor; 1.1' },
  {
    field: 'header_size',
    offset: HEADER_SIZE_AT,
    kind: 'u32',
    meaning: 'bytes of the header from this field on',
  },
  { field: 'image_type', offset: 0x4c, kind: 'u32', meaning: '1 dynamic, 2 fixed, 3 undo, 4 differencing' },
  { field: 'image_flags', offset: 0x50, kind: 'u32', meaning: 'hints to VirtualBox' },
  { field: 'offset_bmap', offset: 0x154, kind: 'u32', meaning: 'where the block map begins' },
  { field: 'offset_data', offset: 0x158, kind: 'u32', meaning: 'where block 0 begins' },
  { field: 'cylinders', offset: 0x15c, kind: 'u32', meaning: 'legacy geometry' },
  { field: 'heads', offset: 0x160, kind: 'u32', meaning: 'legacy geometry' },
  { field: 'sectors', offset: 0x164, kind: 'u32', meaning: 'legacy geometry' },
  { field: 'sector_size', offset: 0x168, kind: 'u32', meaning: '512' },
  { field: 'disk_size', offset: 0x170, kind: 'u64', meaning: 'bytes of the disk' },
  { field: 'block_size', offset: 0x178, kind: 'u32', meaning: 'bytes of guest data in a block' },
  { field: 'block_extra', offset: 0x17c, kind: 'u32', meaning: 'bytes in front of the data of each block' },
  { field: 'blocks_in_image', offset: 0x180, kind: 'u32', meaning: 'entries of the block map' },
  {
    field: 'blocks_allocated',
    offset: 0x184,
    kind: 'u32',
    meaning: 'places in use; the next one is number so many',
  },
  { field: 'uuid_image', offset: 0x188, kind: 'guid', meaning: 'of this image' },
  { field: 'uuid_modification', offset: 0x198, kind: 'guid', meaning: 'changes when the content does' },
  { field: 'uuid_link', offset: 0x1a8, kind: 'guid', meaning: 'uuid_image of the parent' },
  {
    field: 'uuid_parent_modification',
    offset: 0x1b8,
    kind: 'guid',
    meaning: 'uuid_modification of the parent',
  },
] as const;

type Field = (typeof HEADER_FIELDS)[number];
type ValueOf<Kind> = Kind extends 'guid' ? string : number;
export type VdiFieldName = Field['field'];
export type VdiHeader = { -readonly [F in Field as F['field']]: ValueOf<F['kind']> };

/** The fields as they stand in `bytes` (512 of them). Sizes over 2^53 are NaN. Checks nothing. */
export function decodeHeader(bytes: Buffer): VdiHeader {
  const header: Record<string, number | string> = {};
  for (const entry of HEADER_FIELDS) header[entry.field] = readField(bytes, entry);
  return header as VdiHeader;
}

/** 512 bytes of a header; what is not in the table is zero. */
export function encodeHeader(header: VdiHeader, description: string): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  bytes.write('<<< Virtual Disk Image made by blockfuse >>>\n', 0, 'latin1');
  bytes.write(description.slice(0, 255), 0x54, 'latin1');
  for (const { field } of HEADER_FIELDS) encodeField(bytes, field, header[field]);
  return bytes;
}

/** Writes one field at its place. */
export function encodeField(bytes: Buffer, name: VdiFieldName, value: number | string): void {
  const entry = HEADER_FIELDS.find(({ field }) => field === name);
  if (entry === undefined) return;
  if (typeof value === 'string') writeGuidMixed(bytes, value, entry.offset);
  else if (entry.kind === 'u64') writeU64LE(bytes, value, entry.offset);
  else bytes.writeUInt32LE(value, entry.offset);
}

export function fieldOffset(name: VdiFieldName): number {
  return HEADER_FIELDS.find(({ field }) => field === name)?.offset ?? 0;
}

function readField(bytes: Buffer, { kind, offset }: Field): number | string {
  if (kind === 'guid') return readGuidMixed(bytes, offset);
  return kind === 'u64' ? readU64LE(bytes, offset) : bytes.readUInt32LE(offset);
}
