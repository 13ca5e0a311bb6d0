import { BlockError } from '../../../../src/block/errors.ts';
import { countReferences } from '../check/check.ts';
import { rebuildFromScratch } from '../check/rebuild.ts';
import type { DiskParts } from '../disk.ts';
import type { AmendProgress } from './amend.ts';

/**
 * Refcounts of another width: written anew behind everything else from what the tables name, then the header names them.
 * The old ones are free after that. Nothing but closing may follow.
 */
export async function changeRefcountBits(
  parts: DiskParts,
  bits: number,
  progress: AmendProgress,
): Promise<void> {
  const { image } = parts;
  const references = await countReferences(parts, {
    repair: 'none',
    ...(progress === undefined ? {} : { progress }),
  });
  const { corruptions, checkErrors, messages } = references.findings;
  if (corruptions + checkErrors > 0) {
    const what = `it is damaged, check and repair it first: ${messages[0] ?? ''}`;
    throw new BlockError('EIO', `Cannot amend image "${image.subject}": ${what}`);
  }
  const { clusterSize } = image.geometry;
  const geometry = { ...image.geometry, refcountBits: bits, blockEntries: (clusterSize * 8) / bits };
  const { file, header, subject } = image;
  await rebuildFromScratch({ file, header, subject, geometry }, references.expected, {
    refcount_order: Math.log2(bits),
  });
  const text = `Cannot write to image "${subject}": its refcounts have another width now, it has to be opened again`;
  image.refuseWrites(new BlockError('EBUSY', text));
}
