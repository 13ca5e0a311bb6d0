/** What a node can take in one request. All in bytes; powers of two where called alignment. */
export interface Limits {
  /** Offset and length of reads and writes must be a multiple; the node does read-modify-write for the rest. */
  readonly requestAlignment: number;
  /** Address of the memory (O_DIRECT). */
  readonly memoryAlignment: number;
  readonly maxTransfer: number;
  readonly maxZeroes: number;
  readonly zeroesAlignment: number;
  readonly maxDiscard: number;
  readonly discardAlignment: number;
  /** Cluster, block, grain: writes into ranges without a place are serialised on this unit. 1 without one. */
  readonly allocationUnit: number;
  /** The size is always a multiple: a node that grows for a write grows to one. */
  readonly sizeUnit: number;
}

export const NO_LIMITS: Limits = {
  requestAlignment: 1,
  memoryAlignment: 1,
  maxTransfer: Number.MAX_SAFE_INTEGER,
  maxZeroes: Number.MAX_SAFE_INTEGER,
  zeroesAlignment: 1,
  maxDiscard: Number.MAX_SAFE_INTEGER,
  discardAlignment: 1,
  allocationUnit: 1,
  sizeUnit: 1,
};

export function limits(given: Partial<Limits>): Limits {
  return { ...NO_LIMITS, ...given };
}
