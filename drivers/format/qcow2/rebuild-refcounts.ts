import { BlockError } from '../../../src/block/errors.ts';
import { checkImage } from './check/check.ts';
import type { CheckedImage } from './check/check.ts';

/** Makes the refcounts of an image right that was not closed: its dirty bit says that they may be behind. */
export async function rebuildRefcounts(checked: CheckedImage): Promise<void> {
  const found = await checkImage(checked, { repair: 'all' });
  const left = found.corruptions - found.corruptionsFixed + found.checkErrors;
  if (left === 0) return;
  const what = `the dirty bit is set, and rebuilding the refcounts left ${left} errors`;
  const first = found.messages.find((message) => !message.startsWith('Repaired'));
  const { subject } = checked.image;
  throw new BlockError('EIO', `Cannot open image "${subject}" for writing: ${what} (${first ?? ''})`);
}
