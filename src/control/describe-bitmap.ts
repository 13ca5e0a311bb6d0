import type { DirtyBitmap } from '../block/dirty-bitmap.ts';

/** A bitmap in QEMU's words. */
export interface BitmapDescription {
  readonly name: string;
  /** Notes writes. */
  readonly recording: boolean;
  readonly persistent: boolean;
  readonly busy: boolean;
  readonly inconsistent?: boolean;
  readonly granularity: number;
  /** Bytes that are dirty. */
  readonly count: number;
}

export function describeBitmap(bitmap: DirtyBitmap): BitmapDescription {
  return {
    name: bitmap.name,
    recording: bitmap.enabled,
    persistent: bitmap.persistent,
    busy: bitmap.user !== undefined,
    ...(bitmap.inconsistent ? { inconsistent: true } : {}),
    granularity: bitmap.granularity,
    count: bitmap.dirtyBytes,
  };
}
