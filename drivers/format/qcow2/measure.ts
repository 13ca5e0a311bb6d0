import type { ImageMeasure, MeasureContext } from '../../../src/block/driver.ts';
import { DirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import { luksHeaderBytes } from '../../../src/crypto/luks-create.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { entrySize } from './bitmap/directory.ts';
import { newImageOptions } from './create-options.ts';
import type { NewQcow2 } from './create-options.ts';

/** Bytes of the file of an image with all tables, and as much data as the source has or can have. */
export async function measureQcow2(context: MeasureContext): Promise<ImageMeasure> {
  const image = newImageOptions({ ...context, subject: 'new image' });
  const data = alignUp(image.size, image.clusterSize);
  const { dataBytes } = context;
  const tables = tableBytes(image, data) + keyBytes(image, context);
  const fullyAllocated = tables + data;
  // Over a backing file nobody knows what it has in common with the source.
  const overBacking = image.backingFile !== undefined && dataBytes !== undefined;
  const whole = overBacking || image.preallocation === 'full' || image.preallocation === 'falloc';
  const required = whole ? fullyAllocated : tables + ((await dataBytes?.(image.clusterSize)) ?? 0);
  return { required, fullyAllocated, ...bitmapBytes(image, context) };
}

/** The LUKS header with all key slots. */
function keyBytes({ encryption, clusterSize }: NewQcow2, { options }: MeasureContext): number {
  if (encryption !== 'luks') return 0;
  return alignUp(
    luksHeaderBytes((name) => String(options[`encrypt.${name}`])),
    clusterSize,
  );
}

/** With every piece of each in a cluster. */
function bitmapBytes({ clusterSize, size, version }: NewQcow2, { bitmaps }: MeasureContext): object {
  if (bitmaps === undefined || version < 3) return {};
  if (bitmaps.length === 0) return { bitmaps: 0 };
  let directory = 0;
  let bytes = 0;
  for (const { name, granularity } of bitmaps) {
    const pieces = Math.ceil(DirtyBitmap.bytesFor(size, granularity) / clusterSize);
    bytes += pieces * clusterSize + alignUp(pieces * 8, clusterSize);
    directory += entrySize(Buffer.byteLength(name), 0);
  }
  return { bitmaps: bytes + alignUp(directory, clusterSize) };
}

/** Header, L1 and L2 tables for all of the disk, and refcounts for those, for the data and for themselves. */
function tableBytes({ clusterSize, extendedL2, refcountBits }: NewQcow2, data: number): number {
  const clusters = data / clusterSize;
  const tables = Math.ceil(clusters / (clusterSize / (extendedL2 ? 16 : 8)));
  const directory = Math.ceil((tables * 8) / clusterSize);
  const counted = 1 + tables + directory + clusters;
  const perBlock = (clusterSize * 8) / refcountBits;
  let own = 0;
  for (;;) {
    const blocks = Math.ceil((counted + own) / perBlock);
    const needed = blocks + Math.ceil((blocks * 8) / clusterSize);
    if (needed === own) return (1 + tables + directory + own) * clusterSize;
    own = needed;
  }
}
