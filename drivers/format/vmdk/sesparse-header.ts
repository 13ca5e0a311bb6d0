import { refuseImage } from '../../../src/block/refuse.ts';
import { readU64LE } from '../../../src/util/bytes.ts';
import type { SparseGeometry } from './geometry.ts';
import { MAX_DIRECTORIES } from './geometry.ts';
import type { Fields } from './layout.ts';
import { decode, MAX_SECTORS, SECTOR } from './layout.ts';

/** Space-efficient sparse extents (vSphere 6.5): the constant header in sector 0. VMware has not published it. */
export const SESPARSE_HEADER = {
  constMagic: { at: 0, width: 8, meaning: '0xcafebabe' },
  version: { at: 8, width: 8, meaning: '2.1: 0x200000001' },
  capacity: { at: 16, width: 8, meaning: 'sectors of the disk in this extent' },
  grainSize: { at: 24, width: 8, meaning: '8 sectors' },
  grainTableSize: { at: 32, width: 8, meaning: '64 sectors' },
  flags: { at: 40, width: 8, meaning: '0' },
  volatileHeaderOffset: { at: 80, width: 8, meaning: 'sector of the volatile header' },
  volatileHeaderSize: { at: 88, width: 8, meaning: 'sectors' },
  grainDirectoryOffset: { at: 128, width: 8, meaning: 'sector' },
  grainDirectorySize: { at: 136, width: 8, meaning: 'sectors' },
  grainTablesOffset: { at: 144, width: 8, meaning: 'sector of grain table 0' },
  grainTablesSize: { at: 152, width: 8, meaning: 'sectors' },
  grainsOffset: { at: 192, width: 8, meaning: 'sector of grain 0' },
  grainsSize: { at: 200, width: 8, meaning: 'sectors' },
} as const;
export type SeSparseHeader = Fields<typeof SESPARSE_HEADER>;

/** The sector that changes: here only whether the journal has to be replayed first. */
export const SESPARSE_VOLATILE = {
  volatileMagic: { at: 0, width: 8, meaning: '0xcafecafe' },
  replayJournal: { at: 24, width: 8, meaning: 'not 0: the tables are in the journal' },
} as const;

export const SESPARSE_MAGIC = 0xcafebabe;
export const SESPARSE_VOLATILE_MAGIC = 0xcafecafe;
export const SESPARSE_VERSION = 0x200000001;
const GRAIN = 8;
const TABLE = 64;

export const isSeSparse = (head: Buffer): boolean =>
  head.length >= SECTOR && readU64LE(head, 0) === SESPARSE_MAGIC && readU64LE(head, 8) === SESPARSE_VERSION;

/** Sector of the volatile header, for the caller to read. */
export function volatileSector(head: Buffer, subject: string): number {
  const sector = decode(SESPARSE_HEADER, head).volatileHeaderOffset;
  if (sector >= 1 && sector <= MAX_SECTORS) return sector;
  return refuseImage(subject, `the volatile header is at sector ${sector}`, 'must be inside the file');
}

export function checkVolatileHeader(sector: Buffer, subject: string): void {
  const { volatileMagic, replayJournal } = decode(SESPARSE_VOLATILE, sector);
  if (volatileMagic !== SESPARSE_VOLATILE_MAGIC) {
    refuseImage(
      subject,
      `the volatile header begins with 0x${volatileMagic.toString(16)}`,
      'must begin with 0xcafecafe',
    );
  }
  if (replayJournal !== 0) refuseImage(subject, 'its journal has to be replayed', 'only ESXi can do that');
}

export function seSparseGeometry(head: Buffer, fileSize: number, subject: string): SparseGeometry {
  const header = decode(SESPARSE_HEADER, head);
  const must = (name: keyof SeSparseHeader, wanted: number): void => {
    if (header[name] !== wanted) refuseImage(subject, `${name} is ${header[name]}`, `must be ${wanted}`);
  };
  must('constMagic', SESPARSE_MAGIC);
  must('version', SESPARSE_VERSION);
  must('grainSize', GRAIN);
  must('grainTableSize', TABLE);
  must('flags', 0);
  const { capacity, grainDirectoryOffset, grainDirectorySize, grainTablesOffset, grainsOffset } = header;
  const tableEntries = (TABLE * SECTOR) / 8;
  const directoryEntries = Math.ceil(capacity / (GRAIN * tableEntries));
  if (
    !(capacity <= MAX_SECTORS) ||
    directoryEntries * 8 > Math.min(grainDirectorySize * SECTOR, MAX_DIRECTORIES)
  ) {
    const wanted = `must fit the grain directory of ${grainDirectorySize} sectors and 64 MiB`;
    refuseImage(subject, `capacity is ${capacity}`, wanted);
  }
  const inFile = (sector: number): boolean => sector >= 1 && sector * SECTOR <= fileSize;
  if (!inFile(grainDirectoryOffset) || grainDirectoryOffset * SECTOR + directoryEntries * 8 > fileSize) {
    refuseImage(
      subject,
      `the grain directory is at sector ${grainDirectoryOffset}`,
      `must lie inside ${fileSize} bytes`,
    );
  }
  if (!inFile(grainTablesOffset) || !inFile(grainsOffset)) {
    const at = `tables and grains are at sectors ${grainTablesOffset} and ${grainsOffset}`;
    refuseImage(subject, at, `must lie inside ${fileSize} bytes`);
  }
  const tableSize = TABLE * SECTOR;
  const grainSize = GRAIN * SECTOR;
  return {
    format: 'sesparse',
    capacity: capacity * SECTOR,
    grainSize,
    tableEntries,
    tableSize,
    tablePlace: { base: grainTablesOffset * SECTOR - 2 * tableSize, scale: tableSize },
    grainPlace: { base: grainsOffset * SECTOR - 2 * grainSize, scale: grainSize },
    directoryEntries,
    directoryOffset: grainDirectoryOffset * SECTOR,
    redundantOffset: undefined,
    zeroedGrains: true,
    reserved: SECTOR,
    compressed: false,
    markers: false,
  };
}
