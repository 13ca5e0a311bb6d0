import { refuseImage } from '../../../src/block/refuse.ts';
import { alignUp, isPowerOfTwo } from '../../../src/util/sizes.ts';
import type { SparseGeometry } from './geometry.ts';
import { BY_SECTOR, MAX_DIRECTORIES, MAX_GRAIN } from './geometry.ts';
import type { Fields } from './layout.ts';
import { ALL_ONES, decode, MAX_SECTORS, SECTOR } from './layout.ts';

/** Virtual Disk Format 5.0, "Hosted Sparse Extents": the first sector of a SPARSE extent, and the footer of a stream. */
export const SPARSE_HEADER = {
  magicNumber: { at: 0, width: 4, meaning: '"KDMV"' },
  version: { at: 4, width: 4, meaning: '1; 2 with zeroed grains; 3 when compressed' },
  flags: { at: 8, width: 4, meaning: 'SparseFlag' },
  capacity: { at: 12, width: 8, meaning: 'sectors of the disk in this extent' },
  grainSize: { at: 20, width: 8, meaning: 'sectors of a grain, a power of two' },
  descriptorOffset: { at: 28, width: 8, meaning: 'first sector of the embedded descriptor, 0 without one' },
  descriptorSize: { at: 36, width: 8, meaning: 'sectors of the embedded descriptor' },
  numGTEsPerGT: { at: 44, width: 4, meaning: 'entries of a grain table' },
  rgdOffset: { at: 48, width: 8, meaning: 'first sector of the redundant grain directory' },
  gdOffset: { at: 56, width: 8, meaning: 'first sector of the grain directory; all ones: the footer says' },
  overHead: { at: 64, width: 8, meaning: 'sectors before the first grain' },
  uncleanShutdown: { at: 72, width: 1, meaning: '1 while open for writing' },
  singleEndLineChar: { at: 73, width: 1, meaning: '"\\n": shows what a transfer in text mode breaks' },
  nonEndLineChar: { at: 74, width: 1, meaning: '" "' },
  doubleEndLineChar1: { at: 75, width: 1, meaning: '"\\r"' },
  doubleEndLineChar2: { at: 76, width: 1, meaning: '"\\n"' },
  compressAlgorithm: { at: 77, width: 2, meaning: '0 none, 1 deflate' },
} as const;
export type SparseHeader = Fields<typeof SPARSE_HEADER>;

export const SPARSE_MAGIC = 0x564d444b;
export const SparseFlag = {
  newLineTest: 1,
  redundantTable: 2,
  zeroedGrains: 4,
  compressed: 0x10000,
  markers: 0x20000,
} as const;
const KNOWN_FLAGS = 0x30007;
const MAX_TABLE_ENTRIES = 16384;
const DEFLATE = 1;
/** The grain directory's place is in the footer. */
export const GD_AT_END = ALL_ONES;

export const isSparse = (head: Buffer): boolean =>
  head.length >= SECTOR && head.readUInt32LE(0) === SPARSE_MAGIC;

/** Decodes and checks what does not depend on the grain directory. */
export function parseSparseHeader(bytes: Buffer, subject: string): SparseHeader {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  const header = decode(SPARSE_HEADER, bytes);
  if (header.magicNumber !== SPARSE_MAGIC)
    refuse(`magic is ${hex(header.magicNumber)}`, `must be ${hex(SPARSE_MAGIC)}`);
  if (header.version < 1 || header.version > 3) refuse(`version is ${header.version}`, 'must be 1 to 3');
  const unknown = (header.flags & ~KNOWN_FLAGS) >>> 0;
  if (unknown >= 0x10000) refuse(`flags are ${hex(header.flags)}`, `${hex(unknown)} is not supported`);
  if ((header.flags & SparseFlag.newLineTest) !== 0) checkLineEnds(header, refuse);
  if (!(header.capacity <= MAX_SECTORS))
    refuse(`capacity is ${header.capacity}`, `must be at most ${MAX_SECTORS} sectors`);
  if (!(header.descriptorOffset <= MAX_SECTORS && header.descriptorSize <= MAX_SECTORS)) {
    refuse(`the descriptor is at sector ${header.descriptorOffset}`, `must be below ${MAX_SECTORS}`);
  }
  return header;
}

/** The tables that a checked header describes. @param fileSize bytes; tables must lie inside */
export function sparseGeometry(header: SparseHeader, fileSize: number, subject: string): SparseGeometry {
  const refuse = (is: string, wanted: string): never => refuseImage(subject, is, wanted);
  const grainSize = header.grainSize * SECTOR;
  if (!isPowerOfTwo(header.grainSize) || grainSize > MAX_GRAIN) {
    refuse(`grainSize is ${header.grainSize}`, `must be a power of two up to ${MAX_GRAIN / SECTOR} sectors`);
  }
  const entries = header.numGTEsPerGT;
  if (entries < 1 || entries > MAX_TABLE_ENTRIES) {
    refuse(`numGTEsPerGT is ${entries}`, `must be 1 to ${MAX_TABLE_ENTRIES} (512 is usual)`);
  }
  const directoryEntries = Math.ceil(header.capacity / (header.grainSize * entries));
  if (directoryEntries * 4 > MAX_DIRECTORIES) {
    refuse(`the grain directory has ${directoryEntries} entries`, `must be at most ${MAX_DIRECTORIES / 4}`);
  }
  const place = (name: string, sector: number): number => {
    const end = sector * SECTOR + directoryEntries * 4;
    if (sector > 0 && end <= fileSize) return sector * SECTOR;
    return refuse(
      `${name} is ${sector} with ${directoryEntries} entries`,
      `must lie inside the file of ${fileSize} bytes`,
    );
  };
  const directoryOffset = place('gdOffset', header.gdOffset);
  const compressed = (header.flags & SparseFlag.compressed) !== 0;
  if (compressed && header.compressAlgorithm !== DEFLATE) {
    refuse(`compressAlgorithm is ${header.compressAlgorithm}`, `must be ${DEFLATE} (deflate)`);
  }
  const redundant = !compressed && (header.flags & SparseFlag.redundantTable) !== 0 && header.rgdOffset !== 0;
  const redundantOffset = redundant ? place('rgdOffset', header.rgdOffset) : undefined;
  const descriptorEnd = compressed ? 0 : (header.descriptorOffset + header.descriptorSize) * SECTOR;
  return {
    format: 'sparse',
    capacity: header.capacity * SECTOR,
    grainSize,
    tableEntries: entries,
    tableSize: alignUp(entries * 4, SECTOR),
    tablePlace: BY_SECTOR,
    grainPlace: BY_SECTOR,
    directoryEntries,
    directoryOffset,
    redundantOffset,
    zeroedGrains: (header.flags & SparseFlag.zeroedGrains) !== 0,
    reserved: Math.max(SECTOR, descriptorEnd <= fileSize ? descriptorEnd : 0),
    compressed,
    markers: (header.flags & SparseFlag.markers) !== 0,
  };
}

function checkLineEnds(header: SparseHeader, refuse: (is: string, wanted: string) => never): void {
  const { singleEndLineChar: a, nonEndLineChar: b, doubleEndLineChar1: c, doubleEndLineChar2: d } = header;
  if (a === 0x0a && b === 0x20 && c === 0x0d && d === 0x0a) return;
  const found = [a, b, c, d].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  refuse(`the end of line bytes are ${found}`, 'must be 0a 20 0d 0a (the file was transferred as text)');
}

const hex = (value: number): string => `0x${value.toString(16)}`;
