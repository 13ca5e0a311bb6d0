import type { CheckOptions } from '../../../../src/block/driver.ts';
import { BlockError } from '../../../../src/block/errors.ts';
import { ExtensionType } from '../extensions.ts';
import { Autoclear } from '../features.ts';
import { takenBy } from '../bitmap/list.ts';
import { readBitmapTable, readDirectory, vouchesForBitmaps } from '../bitmap/load.ts';
import type { References } from './references.ts';

/**
 * What the bitmaps extension names. It counts as long as the header vouches for it; a damaged one is repaired by the header
 * doing so no more: its bitmaps are lost, and their clusters are leaks.
 */
export async function countBitmaps(references: References, repair: CheckOptions['repair']): Promise<void> {
  const { image, findings } = references;
  const extension = image.extensions.find(({ type }) => type === ExtensionType.bitmaps);
  if (extension === undefined || !vouchesForBitmaps(image.header.fields)) return;
  const before = references.expected.clone();
  try {
    await countAll(references, extension.data);
  } catch (error) {
    if (!(error instanceof BlockError) || error.code !== 'EINVAL') throw error;
    const fixes = repair === 'all' && image.writable;
    findings.corruption(error.message, fixes);
    if (!fixes) return;
    references.expected = before;
    const { autoclear_features: bits } = image.header.fields;
    await image.header.update({ autoclear_features: bits & ~Autoclear.bitmaps });
  }
}

async function countAll(references: References, data: Buffer): Promise<void> {
  const { image } = references;
  const refuse = (what: string): never => {
    throw new BlockError('EINVAL', what);
  };
  const source = { file: image.file, header: image.header.fields, extensions: image.extensions };
  const { directory, entries } = await readDirectory(source, data, refuse);
  references.table(directory.offset, directory.length, 'the bitmap directory');
  for (const entry of entries) {
    const place = await readBitmapTable(source, entry, refuse);
    for (const { offset, length, what } of takenBy(place, entry.name, image.geometry.clusterSize))
      references.table(offset, length, what);
  }
}
