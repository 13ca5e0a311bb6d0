import { isTableUsable } from './stored-refcounts.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';
import { Single } from './references.ts';
import type { References } from './references.ts';

const RESERVED = 512;

/** Notes where refcount blocks are, as far as they are where they may be: no L2 table may be there. */
export function findBlocks(references: References, stored: StoredRefcounts): void {
  const { clusterSize } = references.image.geometry;
  for (let index = 0; index < stored.blocks; index += 1) {
    const offset = stored.entry(index);
    if (offset !== 0 && offset % clusterSize === 0 && references.isInFile(offset))
      references.singles.set(offset / clusterSize, Single.block);
  }
}

/** Counts the refcount table, before anything else is looked at. False when the header does not name one. */
export function countRefcountTable(references: References): boolean {
  const { image, findings } = references;
  const { refcount_table_offset: offset, refcount_table_clusters: clusters } = image.header.fields;
  const what = `the refcount table`;
  if (isTableUsable(image))
    return references.countFixed(offset, clusters * image.geometry.clusterSize, what) && clusters > 0;
  findings.error(`${what} is said to be at ${offset}, ${clusters} clusters long, where none can be`);
  return false;
}

/**
 * Counts the refcount blocks, after everything else. False when they can't be repaired in place (out of place, or used for
 * something else too): then they have to be made anew.
 */
export function countBlocks(references: References, stored: StoredRefcounts): boolean {
  const { image, findings, counts } = references;
  const { clusterSize } = image.geometry;
  let isSound = true;
  const wrong = (what: string): void => {
    findings.corruption(what);
    isSound = false;
  };
  for (let index = 0; index < stored.blocks; index += 1) {
    const offset = stored.entry(index);
    if (offset === 0) continue;
    const block = `refcount block ${index}`;
    if (offset % RESERVED !== 0)
      wrong(`entry ${index} of the refcount table is ${offset}: reserved bits are set`);
    else if (Number.isNaN(offset) || offset % clusterSize !== 0)
      wrong(`${block} is at ${offset}, must be a multiple of the cluster size ${clusterSize}`);
    else if (!references.isInFile(offset))
      wrong(`${block} is at ${offset}, ${clusterSize} bytes long, but the file ends at ${image.file.size}`);
    else if (!references.count(offset, clusterSize, () => block)) isSound = false;
    else if (counts.get(offset / clusterSize) !== 1)
      wrong(`${block} at ${offset} is used for something else as well`);
  }
  return isSound;
}
