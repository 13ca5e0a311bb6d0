import type { Header } from './header.ts';
import { Incompatible } from './features.ts';

/** Everything that follows from the header about sizes of tables. All sizes and spans in bytes unless they count entries. */
export interface Geometry {
  readonly version: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** Bytes of one L2 entry: 8, or 16 with a subcluster bitmap. */
  readonly entrySize: number;
  readonly subclusterSize: number;
  /** Entries of a whole L2 table. */
  readonly tableEntries: number;
  /** Guest bytes that one L1 entry (one L2 table) describes. */
  readonly tableSpan: number;
  /** L2 tables are cached in slices. */
  readonly sliceSize: number;
  readonly sliceEntries: number;
  readonly sliceSpan: number;
  readonly slicesPerTable: number;
  readonly refcountBits: number;
  /** Refcounts in a whole refcount block. */
  readonly blockEntries: number;
  /** Refcount blocks are cached in pages. */
  readonly pageSize: number;
  readonly pageEntries: number;
  readonly pagesPerBlock: number;
  /** Bits of the host offset in a compressed cluster descriptor. */
  readonly compressedOffsetBits: number;
}

const REFCOUNT_PAGE = 4096;

/** @param sliceWanted bytes of an L2 table that are loaded and cached as one; a power of two */
export function geometryOf(header: Header, sliceWanted: number): Geometry {
  const clusterSize = 2 ** header.cluster_bits;
  const extendedL2 = (header.incompatible_features & Incompatible.extendedL2) !== 0n;
  const entrySize = extendedL2 ? 16 : 8;
  const sliceSize = Math.min(clusterSize, Math.max(512, sliceWanted));
  const sliceEntries = sliceSize / entrySize;
  const tableEntries = clusterSize / entrySize;
  const refcountBits = 2 ** header.refcount_order;
  const pageSize = Math.min(clusterSize, REFCOUNT_PAGE);
  return {
    version: header.version,
    clusterBits: header.cluster_bits,
    clusterSize,
    extendedL2,
    entrySize,
    subclusterSize: extendedL2 ? clusterSize / 32 : clusterSize,
    tableEntries,
    tableSpan: tableEntries * clusterSize,
    sliceSize,
    sliceEntries,
    sliceSpan: sliceEntries * clusterSize,
    slicesPerTable: clusterSize / sliceSize,
    refcountBits,
    blockEntries: (clusterSize * 8) / refcountBits,
    pageSize,
    pageEntries: (pageSize * 8) / refcountBits,
    pagesPerBlock: clusterSize / pageSize,
    compressedOffsetBits: 62 - (header.cluster_bits - 8),
  };
}
