import { refuseImage } from '../../../src/block/refuse.ts';
import { decodeFields, encodeFields } from './fields.ts';
import type { Decoded } from './fields.ts';
import { KIB, MIB, sumWithout } from './header.ts';

/** [MS-VHDX] 2.2.3 */
export const REGION_TABLE_LENGTH = 64 * KIB;
export const BAT_REGION = '2dc27766-f623-4200-9d64-115e9bfd4a08';
export const METADATA_REGION = '8b7ca206-4790-4b9a-b8fe-575f050f886e';
const SIGNATURE = 'regi';
const ENTRIES_MAX = 2047;
const ENTRY_LENGTH = 32;

const ENTRY_FIELDS = [
  { field: 'guid', offset: 0, kind: 'guid', meaning: 'what the region is' },
  { field: 'offset', offset: 16, kind: 'u64', meaning: 'a multiple of 1 MiB' },
  { field: 'length', offset: 24, kind: 'u32', meaning: 'a multiple of 1 MiB' },
  {
    field: 'required',
    offset: 28,
    kind: 'u32',
    meaning: '1: who does not know the region may not open the file',
  },
] as const;

export type Region = Decoded<typeof ENTRY_FIELDS>;

export interface Regions {
  readonly bat: Region;
  readonly metadata: Region;
  readonly all: readonly Region[];
}

/** The regions in a table of 64 KiB; why it is not valid, in words, otherwise. */
export function decodeRegionTable(bytes: Buffer): Region[] | string {
  const signature = bytes.toString('latin1', 0, 4);
  if (signature !== SIGNATURE) return `signature is ${JSON.stringify(signature)}, must be "regi"`;
  const sum = sumWithout(bytes, 4);
  const stored = bytes.readUInt32LE(4);
  if (stored !== sum) return `checksum is 0x${stored.toString(16)}, must be 0x${sum.toString(16)}`;
  const count = bytes.readUInt32LE(8);
  if (count > ENTRIES_MAX) return `entry count is ${count}, must be at most ${ENTRIES_MAX}`;
  return Array.from({ length: count }, (_, index) =>
    decodeFields(ENTRY_FIELDS, bytes, 16 + index * ENTRY_LENGTH),
  );
}

/** 64 KiB with a right checksum. */
export function encodeRegionTable(regions: readonly Region[]): Buffer {
  const bytes = Buffer.alloc(REGION_TABLE_LENGTH);
  bytes.write(SIGNATURE, 0, 'latin1');
  bytes.writeUInt32LE(regions.length, 8);
  for (const [index, region] of regions.entries())
    encodeFields(ENTRY_FIELDS, region, bytes, 16 + index * ENTRY_LENGTH);
  bytes.writeUInt32LE(sumWithout(bytes, 4), 4);
  return bytes;
}

/** Every rule that regions can break, alone and together with the log. */
export function checkRegions(
  all: readonly Region[],
  log: { offset: number; length: number },
  fileSize: number,
  subject: string,
): Regions {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  for (const { guid, offset, length, required } of all) {
    const known = guid === BAT_REGION || guid === METADATA_REGION;
    if (!known && required !== 0)
      refuseImage(subject, `it needs region {${guid}}`, 'which is not known', 'ENOTSUP');
    if (!(offset >= MIB) || offset % MIB !== 0)
      refuse(`region {${guid}} is at ${offset}`, 'must be at a multiple of 1 MiB, at least 1 MiB');
    if (length % MIB !== 0 || length === 0)
      refuse(`region {${guid}} has ${length} bytes`, 'must have a multiple of 1 MiB');
    if (known && offset + length > fileSize)
      refuse(`region {${guid}} ends at ${offset + length}`, `must be inside the file of ${fileSize} bytes`);
  }
  checkOverlaps([...all, { ...log, guid: 'log', required: 1 }], refuse);
  const [bat, secondBat] = all.filter(({ guid }) => guid === BAT_REGION);
  const [metadata, secondMetadata] = all.filter(({ guid }) => guid === METADATA_REGION);
  if (bat === undefined) refuseImage(subject, 'there is no block allocation table region', 'must be one');
  if (metadata === undefined) refuseImage(subject, 'there is no metadata region', 'must be one');
  if (secondBat !== undefined || secondMetadata !== undefined)
    refuse('a region is there twice', 'must be there once');
  return { bat, metadata, all };
}

function checkOverlaps(regions: readonly Region[], refuse: (is: string, wanted: string) => never): void {
  const sorted = [...regions]
    .filter(({ length }) => length > 0)
    .sort((one, other) => one.offset - other.offset);
  for (const [index, region] of sorted.entries()) {
    const before = sorted[index - 1];
    if (before === undefined || before.offset + before.length <= region.offset) continue;
    refuse(
      `region {${region.guid}} begins at ${region.offset}`,
      `must be behind {${before.guid}}, which ends at ${before.offset + before.length}`,
    );
  }
}
