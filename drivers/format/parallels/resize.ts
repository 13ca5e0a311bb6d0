/**
 * A longer BAT for a disk that grows. Where it has no room in front of the clusters, the first of them move to the end:
 *
 *     copy, flush -> BAT names the copies, flush -> zeroes where they were, flush -> header, one sector: longer BAT, later data
 */
import type { Child } from '../../../src/block/child.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import type { Bat } from './bat.ts';
import { encodeHeader, HEADER_LENGTH, MAGIC_V1, SECTOR } from './header.ts';
import type { Geometry, Header } from './header.ts';

const PIECE = 1024 * 1024;

export interface Growth {
  readonly entries: number;
  /** Where clusters begin then. */
  readonly dataOffset: number;
}

/** Throws for a size that can't be. */
export function planGrowth(header: Header, geometry: Geometry, size: number, subject: string): Growth {
  const { clusterSize, batEntries, dataOffset } = geometry;
  const refuse = (why: string, code: 'EINVAL' | 'ENOTSUP' = 'ENOTSUP'): never => {
    throw new BlockError(code, `Cannot resize "${subject}" to ${size} bytes: ${why}`);
  };
  if (size % SECTOR !== 0) refuse('the size must be a multiple of 512', 'EINVAL');
  if (size < geometry.size) refuse('Parallels images do not shrink');
  const entries = Math.max(batEntries, Math.ceil(size / clusterSize));
  if (entries > 2 ** 31 || (header.magic === MAGIC_V1 && size / SECTOR >= 2 ** 32))
    refuse('the header has no room for that many', 'EINVAL');
  const missing = Math.max(0, HEADER_LENGTH + entries * 4 - dataOffset);
  if (missing > 0 && header.ext_off !== 0)
    refuse('its BAT is full, and it has a format extension, which does not move');
  return { entries, dataOffset: dataOffset + alignUp(missing, clusterSize) };
}

const SECTORS_PER_TRACK = 32;

/** The geometry that the header has for the guest. */
export const cylindersFor = (size: number, heads: number): number =>
  Math.min(2 ** 32 - 1, Math.floor(size / SECTOR / Math.max(1, heads) / SECTORS_PER_TRACK));

/** Clusters of the disk that lie below a byte of the file. */
export async function clustersBelow(
  bat: Bat,
  geometry: Geometry,
  end: number,
): Promise<{ cluster: number; place: number }[]> {
  const found: { cluster: number; place: number }[] = [];
  for (let cluster = 0; cluster < geometry.batEntries; cluster += 1) {
    while (!bat.locate(cluster)) await bat.load();
    const place = bat.place(cluster);
    if (place !== 0 && place < end) found.push({ cluster, place });
  }
  return found;
}

export async function copyCluster(file: Child, from: number, to: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += PIECE) {
    const bytes = Buffer.allocUnsafe(Math.min(PIECE, length - done));
    await file.read(bytes, from + done);
    await file.write(bytes, to + done);
  }
}

/** The header that says so; its other fields are taken from the file as they are now. */
export async function writeHeader(file: Child, header: Header): Promise<void> {
  const now = Buffer.alloc(HEADER_LENGTH);
  await file.read(now, 0);
  const bytes = encodeHeader(header);
  now.copy(bytes, 44, 44, 48);
  now.copy(bytes, 52, 52, 56);
  await file.write(bytes, 0);
  await file.flush();
}
