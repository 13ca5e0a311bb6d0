import { refuseImage } from '../../../src/block/refuse.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import type { SparseGeometry } from './geometry.ts';
import { BY_SECTOR, MAX_DIRECTORIES, MAX_GRAIN } from './geometry.ts';
import type { Fields } from './layout.ts';
import { decode, SECTOR } from './layout.ts';

/** Virtual Disk Format 5.0, "ESX Server Sparse Extents": VMFSSPARSE, the redo log of a snapshot. 2048 bytes. */
export const COWD_HEADER = {
  magicNumber: { at: 0, width: 4, meaning: '"COWD"' },
  version: { at: 4, width: 4, meaning: '1' },
  flags: { at: 8, width: 4, meaning: '3' },
  numSectors: { at: 12, width: 4, meaning: 'sectors of the disk in this extent' },
  grainSize: { at: 16, width: 4, meaning: 'sectors of a grain' },
  gdOffset: { at: 20, width: 4, meaning: 'first sector of the grain directory' },
  numGDEntries: { at: 24, width: 4, meaning: 'entries of the grain directory' },
  freeSector: { at: 28, width: 4, meaning: 'first sector that was never given out' },
  uncleanShutdown: { at: 1648, width: 4, meaning: '1 while open for writing' },
} as const;
export type CowdHeader = Fields<typeof COWD_HEADER>;

export const COWD_MAGIC = 0x44574f43;
export const COWD_HEADER_SIZE = 2048;
export const COWD_TABLE_ENTRIES = 4096;

export const isCowd = (head: Buffer): boolean => head.length >= SECTOR && head.readUInt32LE(0) === COWD_MAGIC;

/** @param head the first 2048 bytes of the file, or all there is */
export function cowdGeometry(head: Buffer, fileSize: number, subject: string): SparseGeometry {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  if (head.length < COWD_HEADER_SIZE)
    refuse(`the file has ${fileSize} bytes`, `must have ${COWD_HEADER_SIZE} or more`);
  const header = decode(COWD_HEADER, head);
  if (header.magicNumber !== COWD_MAGIC)
    refuse(`magic is ${header.magicNumber.toString(16)}`, 'must be "COWD"');
  if (header.version !== 1) refuse(`version is ${header.version}`, 'must be 1');
  const grainSize = header.grainSize * SECTOR;
  if (!isPowerOfTwo(header.grainSize) || grainSize > MAX_GRAIN) {
    refuse(`grainSize is ${header.grainSize}`, `must be a power of two up to ${MAX_GRAIN / SECTOR} sectors`);
  }
  const wanted = Math.ceil(header.numSectors / (header.grainSize * COWD_TABLE_ENTRIES));
  const { numGDEntries } = header;
  if (numGDEntries < wanted || numGDEntries * 4 > MAX_DIRECTORIES) {
    refuse(`numGDEntries is ${numGDEntries}`, `must be ${wanted} to ${MAX_DIRECTORIES / 4}`);
  }
  const directoryOffset = header.gdOffset * SECTOR;
  if (directoryOffset < COWD_HEADER_SIZE || directoryOffset + numGDEntries * 4 > fileSize) {
    refuse(
      `gdOffset is ${header.gdOffset}`,
      `must lie behind the header, inside the file of ${fileSize} bytes`,
    );
  }
  return {
    format: 'cowd',
    capacity: header.numSectors * SECTOR,
    grainSize,
    tableEntries: COWD_TABLE_ENTRIES,
    tableSize: COWD_TABLE_ENTRIES * 4,
    tablePlace: BY_SECTOR,
    grainPlace: BY_SECTOR,
    directoryEntries: numGDEntries,
    directoryOffset,
    redundantOffset: undefined,
    zeroedGrains: false,
    reserved: Math.max(COWD_HEADER_SIZE, directoryOffset + alignUp(numGDEntries * 4, SECTOR)),
    compressed: false,
    markers: false,
  };
}
