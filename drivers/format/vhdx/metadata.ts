import { refuseImage } from '../../../src/block/refuse.ts';
import { isPowerOfTwo } from '../../../src/util/sizes.ts';
import { readU64LE } from '../../../src/util/bytes.ts';
import { readGuidMixed } from '../../../src/util/guid.ts';
import { decodeFields, encodeFields } from './fields.ts';
import type { Decoded } from './fields.ts';
import { KIB, MIB } from './header.ts';
import { decodeLocator } from './parent-locator.ts';
import type { ParentLocator } from './parent-locator.ts';

/** [MS-VHDX] 2.6 */
export const TABLE_LENGTH = 64 * KIB;
const SIGNATURE = 'metadata';
const ENTRIES_MAX = 2047;
const ENTRY_LENGTH = 32;
const REQUIRED = 4;
const USER = 1;
/** A parent locator holds a few names: bounded. */
const ITEM_MAX = MIB;
/** "the virtual disk size ... MUST be at most 64 TB" */
export const DISK_MAX = 64 * 2 ** 40;

export const Item = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  diskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  diskId: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logicalSectorSize: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSectorSize: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const;

const ITEM_NAMES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(Item).map(([name, guid]) => [guid, name]),
);

const ENTRY_FIELDS = [
  { field: 'id', offset: 0, kind: 'guid', meaning: 'what the item is' },
  { field: 'offset', offset: 16, kind: 'u32', meaning: 'from the beginning of the region, at least 64 KiB' },
  { field: 'length', offset: 20, kind: 'u32', meaning: 'bytes' },
  {
    field: 'flags',
    offset: 24,
    kind: 'u32',
    meaning: 'bit 0 user, bit 1 of the virtual disk, bit 2 required',
  },
] as const;

type Entry = Decoded<typeof ENTRY_FIELDS>;

export interface Metadata {
  readonly blockSize: number;
  /** A fixed image: blocks stay allocated. */
  readonly leaveAllocated: boolean;
  readonly hasParent: boolean;
  readonly diskSize: number;
  /** Where that stands, bytes from the start of the region. */
  readonly diskSizeAt: number;
  readonly diskId: string | undefined;
  readonly logicalSectorSize: number;
  readonly physicalSectorSize: number | undefined;
  readonly parent: ParentLocator | undefined;
}

/** Reads bytes of the metadata region. */
export type ReadRegion = (at: number, length: number) => Promise<Buffer>;

/** Reads the metadata table and the items that it names. */
export async function readMetadata(
  read: ReadRegion,
  regionLength: number,
  subject: string,
): Promise<Metadata> {
  const items = decodeTable(await read(0, TABLE_LENGTH), regionLength, subject);
  const item = async (id: string, least: number): Promise<Buffer> => {
    const entry = items.get(id);
    if (entry === undefined)
      refuseImage(subject, `metadata item ${ITEM_NAMES[id]} is missing`, 'must be there');
    if (entry.length < least)
      refuseImage(subject, `metadata item ${ITEM_NAMES[id]} has ${entry.length} bytes`, `must have ${least}`);
    return read(entry.offset, entry.length);
  };
  const parameters = await item(Item.fileParameters, 8);
  const flags = parameters.readUInt32LE(4);
  const hasParent = (flags & 2) !== 0;
  const metadata: Metadata = {
    blockSize: parameters.readUInt32LE(0),
    leaveAllocated: (flags & 1) !== 0,
    hasParent,
    diskSize: readU64LE(await item(Item.diskSize, 8), 0),
    diskSizeAt: items.get(Item.diskSize)?.offset ?? 0,
    diskId: items.has(Item.diskId) ? readGuidMixed(await item(Item.diskId, 16), 0) : undefined,
    logicalSectorSize: (await item(Item.logicalSectorSize, 4)).readUInt32LE(0),
    physicalSectorSize: items.has(Item.physicalSectorSize)
      ? (await item(Item.physicalSectorSize, 4)).readUInt32LE(0)
      : undefined,
    parent: hasParent ? decodeLocator(await item(Item.parentLocator, 20), subject) : undefined,
  };
  checkMetadata(metadata, subject);
  return metadata;
}

export interface MetadataItem {
  readonly id: string;
  readonly bytes: Buffer;
  /** bit 1: of the virtual disk, bit 2: required. */
  readonly flags: number;
}

/** The metadata region from its table to the end of the last item. */
export function encodeMetadata(items: readonly MetadataItem[]): Buffer {
  const table = Buffer.alloc(TABLE_LENGTH);
  table.write(SIGNATURE, 0, 'latin1');
  table.writeUInt16LE(items.length, 10);
  let at = TABLE_LENGTH;
  for (const [index, { id, bytes, flags }] of items.entries()) {
    encodeFields(
      ENTRY_FIELDS,
      { id, offset: at, length: bytes.length, flags },
      table,
      ENTRY_LENGTH + index * ENTRY_LENGTH,
    );
    at += bytes.length;
  }
  return Buffer.concat([table, ...items.map(({ bytes }) => bytes)]);
}

function decodeTable(table: Buffer, regionLength: number, subject: string): Map<string, Entry> {
  const signature = table.toString('latin1', 0, 8);
  if (signature !== SIGNATURE)
    refuseImage(
      subject,
      `the metadata table's signature is ${JSON.stringify(signature)}`,
      `must be "${SIGNATURE}"`,
    );
  const count = table.readUInt16LE(10);
  if (count > ENTRIES_MAX)
    refuseImage(subject, `the metadata table has ${count} entries`, `must have at most ${ENTRIES_MAX}`);
  const items = new Map<string, Entry>();
  for (let index = 0; index < count; index += 1) {
    const entry = decodeFields(ENTRY_FIELDS, table, ENTRY_LENGTH + index * ENTRY_LENGTH);
    const name = ITEM_NAMES[entry.id];
    if (name === undefined || (entry.flags & USER) !== 0) {
      if ((entry.flags & REQUIRED) !== 0)
        refuseImage(subject, `it needs metadata item {${entry.id}}`, 'which is not known', 'ENOTSUP');
      continue;
    }
    if (items.has(entry.id))
      refuseImage(subject, `metadata item ${name} is there twice`, 'must be there once');
    const inside = entry.offset >= TABLE_LENGTH && entry.offset + entry.length <= regionLength;
    if (!inside)
      refuseImage(
        subject,
        `metadata item ${name} is at ${entry.offset}, ${entry.length} bytes`,
        `must be from ${TABLE_LENGTH} to ${regionLength} in its region`,
      );
    if (entry.length > ITEM_MAX)
      refuseImage(
        subject,
        `metadata item ${name} has ${entry.length} bytes`,
        `must have at most ${ITEM_MAX}`,
      );
    items.set(entry.id, entry);
  }
  return items;
}

function checkMetadata(metadata: Metadata, subject: string): void {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  const { blockSize, logicalSectorSize: sector, diskSize } = metadata;
  if (!isPowerOfTwo(blockSize) || blockSize < MIB || blockSize > 256 * MIB) {
    refuse(`block size is ${blockSize}`, 'must be a power of two from 1 MiB to 256 MiB');
  }
  if (sector !== 512 && sector !== 4096) refuse(`logical sector size is ${sector}`, 'must be 512 or 4096');
  if (!(diskSize <= DISK_MAX)) refuse(`virtual disk size is ${diskSize}`, `must be at most ${DISK_MAX}`);
  if (diskSize % sector !== 0)
    refuse(`virtual disk size is ${diskSize}`, `must be a multiple of the sector size ${sector}`);
}
