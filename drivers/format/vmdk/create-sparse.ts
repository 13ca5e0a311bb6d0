import type { Child } from '../../../src/block/child.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { encode, SECTOR } from './layout.ts';
import { GD_AT_END, SPARSE_HEADER, SPARSE_MAGIC, SparseFlag } from './sparse-header.ts';
import type { SparseHeader } from './sparse-header.ts';

/** Sectors. */
export const GRAIN = 128;
export const TABLE_ENTRIES = 512;
export const DESCRIPTOR_SECTORS = 20;
const TABLE_SECTORS = (TABLE_ENTRIES * 4) / SECTOR;

export const directoryEntriesFor = (sectors: number): number => Math.ceil(sectors / (GRAIN * TABLE_ENTRIES));

export interface NewSparse {
  /** Sectors of the disk. */
  readonly sectors: number;
  /** Undefined for an extent whose descriptor is a file of its own. */
  readonly descriptor: Buffer | undefined;
  readonly zeroedGrains: boolean;
}

/**
 * An extent without grains:
 *
 *     header | descriptor | redundant directory | its tables | directory | its tables | first grain ...
 */
export async function writeSparse(file: Child, extent: NewSparse): Promise<void> {
  const entries = directoryEntriesFor(extent.sectors);
  const directorySectors = Math.ceil((entries * 4) / SECTOR);
  const tables = entries * TABLE_SECTORS;
  const rgdOffset = 1 + (extent.descriptor === undefined ? 0 : DESCRIPTOR_SECTORS);
  const gdOffset = rgdOffset + directorySectors + tables;
  const overHead = alignUp(gdOffset + directorySectors + tables, GRAIN);
  const header = sparseHeader(extent, { rgdOffset, gdOffset, overHead });
  await file.resize(overHead * SECTOR);
  await file.write(directory(entries, rgdOffset + directorySectors), rgdOffset * SECTOR);
  await file.write(directory(entries, gdOffset + directorySectors), gdOffset * SECTOR);
  if (extent.descriptor !== undefined) await file.write(extent.descriptor, SECTOR);
  await file.write(encodeHeader(header), 0);
  await file.flush();
}

/** The header of a stream: everything that is not known at the start is in the footer. */
export function streamHeader(sectors: number, gdOffset = GD_AT_END): SparseHeader {
  const base = sparseHeader(
    { sectors, descriptor: Buffer.alloc(1), zeroedGrains: false },
    {
      rgdOffset: 0,
      gdOffset,
      overHead: GRAIN,
    },
  );
  const flags = SparseFlag.newLineTest | SparseFlag.compressed | SparseFlag.markers;
  return { ...base, version: 3, flags, compressAlgorithm: 1 };
}

export function encodeHeader(header: SparseHeader): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  encode(SPARSE_HEADER, bytes, header);
  return bytes;
}

function sparseHeader(
  extent: NewSparse,
  places: Pick<SparseHeader, 'rgdOffset' | 'gdOffset' | 'overHead'>,
): SparseHeader {
  const embedded = extent.descriptor !== undefined;
  const zeroed = extent.zeroedGrains ? SparseFlag.zeroedGrains : 0;
  return {
    magicNumber: SPARSE_MAGIC,
    version: extent.zeroedGrains ? 2 : 1,
    flags: SparseFlag.newLineTest | SparseFlag.redundantTable | zeroed,
    capacity: extent.sectors,
    grainSize: GRAIN,
    descriptorOffset: embedded ? 1 : 0,
    descriptorSize: embedded ? DESCRIPTOR_SECTORS : 0,
    numGTEsPerGT: TABLE_ENTRIES,
    ...places,
    uncleanShutdown: 0,
    singleEndLineChar: 0x0a,
    nonEndLineChar: 0x20,
    doubleEndLineChar1: 0x0d,
    doubleEndLineChar2: 0x0a,
    compressAlgorithm: 0,
  };
}

/** Entries that name tables one after the other. */
function directory(entries: number, firstTable: number): Buffer {
  const bytes = Buffer.alloc(entries * 4);
  for (let index = 0; index < entries; index += 1)
    bytes.writeUInt32LE(firstTable + index * TABLE_SECTORS, index * 4);
  return bytes;
}
