import type { Footer } from './footer.ts';

const SECTOR = 512;
const MAX = { cylinders: 65_535, heads: 16, sectors: 255 } as const;
const CHS_MAX = MAX.cylinders * MAX.heads * MAX.sectors;

/**
 * Programs whose disks end where the geometry does, because their virtual machines see no more. All others, among them
 * "win ", "d2v ", "qem2", "CTXS" and "tap\0", mean current_size.
 */
const CHS_CREATORS: readonly string[] = ['vpc ', 'vs  ', 'qemu'];

/** What QEMU writes for "current_size counts". */
export const CURRENT_SIZE_CREATOR = 'qem2';

/** "A VHD can be at most 2040 GB". */
export const SIZE_MAX = 2040 * 2 ** 30;

export type SizeCalculation = 'chs' | 'current_size' | undefined;

/** Bytes of the disk: by geometry or by current_size, as the program that made the image, or the user, wants it. */
export function diskSize(footer: Footer, wanted: SizeCalculation): number {
  const chs = footer.cylinders * footer.heads * footer.sectors;
  const byGeometry = wanted === undefined ? CHS_CREATORS.includes(footer.creator_app) : wanted === 'chs';
  return byGeometry && chs > 0 && chs < CHS_MAX ? chs * SECTOR : footer.current_size;
}

export interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

/** "CHS Calculation" of the specification's appendix: never more than `bytes`. */
export function geometryFor(bytes: number): Geometry {
  const total = Math.min(Math.floor(bytes / SECTOR), CHS_MAX);
  if (total >= MAX.cylinders * MAX.heads * 63) return tracks(total, MAX.heads, MAX.sectors);
  const short = Math.floor(total / 17);
  const heads = Math.max(4, Math.floor((short + 1023) / 1024));
  if (short < heads * 1024 && heads <= 16) return tracks(total, heads, 17);
  return Math.floor(total / 31) < 16 * 1024 ? tracks(total, 16, 31) : tracks(total, 16, 63);
}

/** The smallest size whose geometry describes at least `bytes`: what a program that goes by geometry sees whole. */
export function roundUpToGeometry(bytes: number): number {
  for (let size = bytes; size / SECTOR < CHS_MAX; size += SECTOR) {
    const { cylinders, heads, sectors } = geometryFor(size);
    const seen = cylinders * heads * sectors * SECTOR;
    if (seen >= bytes) return seen;
  }
  return bytes;
}

function tracks(total: number, heads: number, sectors: number): Geometry {
  return { cylinders: Math.floor(Math.floor(total / sectors) / heads), heads, sectors };
}
