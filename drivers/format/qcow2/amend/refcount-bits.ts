import { BlockError } from '../../../../src/block/errors.ts';
import type { ClusterCounts } from '../check/cluster-counts.ts';
import { rebuildFromScratch } from '../check/rebuild.ts';
import { countReferences } from '../check/survey.ts';
import type { DiskParts } from '../disk.ts';
import { refcountMax } from '../refcount-entry.ts';
import type { AmendProgress } from './amend.ts';

/** What the tables name, of an image that is sound and whose counts fit the width. */
export async function countFor(
  parts: DiskParts,
  bits: number,
  progress: AmendProgress,
): Promise<ClusterCounts> {
  const { image } = parts;
  const refuse = (code: 'EIO' | 'EFBIG', what: string): never => {
    throw new BlockError(code, `Cannot amend image "${image.subject}": ${what}`);
  };
  const { findings, counts } = await countReferences(image, progress);
  const { corruptions, checkErrors, messages } = findings;
  if (corruptions + checkErrors > 0)
    refuse('EIO', `it is damaged, check and repair it first: ${messages.list[0] ?? ''}`);
  const most = refcountMax(bits);
  for (let cluster = 0; cluster < counts.end && bits < image.geometry.refcountBits; cluster += 1) {
    const count = counts.get(cluster);
    if (count > most)
      refuse('EFBIG', `cluster ${cluster} has ${count} references, over what ${bits} bits hold`);
  }
  return counts;
}

/**
 * Refcounts of another width: written anew behind everything else from what the tables name, then the header names them.
 * The old ones are free after that. Nothing but closing may follow.
 * @param counted undefined: clusters have come or gone since
 */
export async function changeRefcountBits(
  parts: DiskParts,
  bits: number,
  counted: ClusterCounts | undefined,
): Promise<void> {
  const { image } = parts;
  const counts = counted ?? (await countFor(parts, bits, undefined));
  const { clusterSize } = image.geometry;
  const geometry = { ...image.geometry, refcountBits: bits, blockEntries: (clusterSize * 8) / bits };
  const { file, header, subject } = image;
  await rebuildFromScratch({ file, header, subject, geometry }, counts, {
    refcount_order: Math.log2(bits),
  });
  const text = `Cannot write to image "${subject}": its refcounts have another width now, it has to be opened again`;
  image.refuseWrites(new BlockError('EBUSY', text));
}
