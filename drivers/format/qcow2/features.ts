/** Feature bits of the header (specification: "Header", bytes 72 to 95). */

export type FeatureKind = 'incompatible' | 'compatible' | 'autoclear';

export interface Feature {
  readonly kind: FeatureKind;
  readonly bit: number;
  /** As it stands in the feature name tables that are found in images. */
  readonly name: string;
}

export const FEATURE_KINDS: readonly FeatureKind[] = ['incompatible', 'compatible', 'autoclear'];

export const FEATURES: readonly Feature[] = [
  { kind: 'incompatible', bit: 0, name: 'dirty bit' },
  { kind: 'incompatible', bit: 1, name: 'corrupt bit' },
  { kind: 'incompatible', bit: 2, name: 'external data file' },
  { kind: 'incompatible', bit: 3, name: 'compression type' },
  { kind: 'incompatible', bit: 4, name: 'extended L2 entries' },
  { kind: 'compatible', bit: 0, name: 'lazy refcounts' },
  { kind: 'autoclear', bit: 0, name: 'bitmaps' },
  { kind: 'autoclear', bit: 1, name: 'raw external data' },
];

export const Incompatible = {
  dirty: 1n,
  corrupt: 2n,
  dataFile: 4n,
  compressionType: 8n,
  extendedL2: 16n,
} as const;
export const INCOMPATIBLE_KNOWN = 31n;
export const Compatible = { lazyRefcounts: 1n } as const;
export const Autoclear = { bitmaps: 1n, rawDataFile: 2n } as const;

/** What writing keeps right: the other autoclear bits have to be cleared before the first write. */
export const AUTOCLEAR_KEPT = Autoclear.rawDataFile | Autoclear.bitmaps;

/** Numbers of the bits set. */
export function bitsOf(mask: bigint): number[] {
  const bits: number[] = [];
  for (let bit = 0; bit < 64; bit += 1) if (((mask >> BigInt(bit)) & 1n) === 1n) bits.push(bit);
  return bits;
}
