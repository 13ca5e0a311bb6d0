import type { OpenContext } from '../../../../src/block/driver.ts';
import { BlockError } from '../../../../src/block/errors.ts';
import type { Qcow2Options } from '../options.ts';
import { BitmapFlag } from './directory.ts';
import { BitmapList } from './list.ts';
import { loadBitmaps, vouchesForBitmaps } from './load.ts';
import type { BitmapSource } from './load.ts';

/**
 * The bitmaps of an image that is being opened. With damaged ones it can be read, without them, and repaired; it is not
 * opened for writing: they would miss what is written.
 */
export async function openBitmaps(
  context: OpenContext<Qcow2Options>,
  source: BitmapSource,
  writable: boolean,
): Promise<BitmapList> {
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', `Cannot open image "${context.subject}": ${what}`);
  };
  try {
    const list = await loadBitmaps(source, refuse);
    if (list.records.length > 0 && !vouchesForBitmaps(source.header))
      context.warn('something that knows no bitmaps has written to the image: they are inconsistent now');
    return list;
  } catch (error) {
    const mayGoOn = !writable || context.options['x-repair'];
    if (!mayGoOn || !(error instanceof BlockError) || error.code !== 'EINVAL') throw error;
    context.warn(`its bitmaps can't be used: ${error.message}`);
    return new BitmapList([], undefined);
  }
}

/** As `info` shows them, in QEMU's words. */
export function describeBitmaps(list: BitmapList): Readonly<Record<string, unknown>>[] {
  return list.records
    .filter(({ place, bitmap }) => place !== undefined || bitmap.inconsistent)
    .map(({ bitmap, flags }) => ({
      flags: [
        ...((flags & BitmapFlag.inUse) === 0 ? [] : ['in-use']),
        ...((flags & BitmapFlag.auto) === 0 ? [] : ['auto']),
      ],
      name: bitmap.name,
      granularity: bitmap.granularity,
    }));
}
