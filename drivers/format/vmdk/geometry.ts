/**
 * What the two levels of tables of a sparse extent look like, whichever of the three header formats describes them:
 *
 *     directory[offset / (tableEntries * grainSize)] -> table[...] -> grain
 *
 * Entries are kept in memory as 32-bit numbers with one meaning for all formats:
 *     0            no grain here: the parent decides
 *     1            reads as zeroes, if `zeroedGrains`
 *     otherwise    a place: base + entry * scale bytes into the file
 */
export interface SparseGeometry {
  readonly format: 'sparse' | 'cowd' | 'sesparse';
  /** Bytes of the disk that the extent holds. */
  readonly capacity: number;
  /** Bytes; a power of two. */
  readonly grainSize: number;
  readonly tableEntries: number;
  /** Bytes of one table in the file. */
  readonly tableSize: number;
  readonly tablePlace: PlaceRule;
  readonly grainPlace: PlaceRule;
  readonly directoryEntries: number;
  /** Bytes into the file. */
  readonly directoryOffset: number;
  /** The second directory, with tables of its own, that is kept in step; undefined without one. */
  readonly redundantOffset: number | undefined;
  readonly zeroedGrains: boolean;
  /** Bytes at the start of the file that no grain and no table may lie in. */
  readonly reserved: number;
  readonly compressed: boolean;
  /** Each compressed grain begins with its sector number and its length. */
  readonly markers: boolean;
}

/** Bytes into the file of what an entry names. */
export interface PlaceRule {
  readonly base: number;
  readonly scale: number;
}

export const BY_SECTOR: PlaceRule = { base: 0, scale: 512 };
/** Entry values below this are no places. */
export const FIRST_PLACE = 2;
/** An entry whose bytes make no sense; only in formats that are only read. */
export const BAD_ENTRY = 0xffffffff;
export const MAX_ENTRY = 0xffffffff;

/** The largest grain that is handled: one is read, filled and decompressed as a whole. */
export const MAX_GRAIN = 16 * 1024 * 1024;
/** Directories of all extents together stay in memory. */
export const MAX_DIRECTORIES = 64 * 1024 * 1024;
