import type { CheckOptions } from '../../../../src/block/driver.ts';
import type { ExpectedRefcounts } from './expected-refcounts.ts';
import type { Findings } from './findings.ts';
import type { Refcounts } from '../refcounts.ts';
import type { References } from './references.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

export interface RefcountCheck {
  readonly stored: StoredRefcounts;
  readonly expected: ExpectedRefcounts;
  readonly findings: Findings;
  readonly repair: CheckOptions['repair'];
  /** For repairs in place. */
  readonly refcounts: Refcounts | undefined;
}

/**
 * Counts the refcount structures themselves. False when they can't be repaired in place (a block out of place, or used
 * for something else too): then they have to be made anew.
 */
export function countRefcountTables(references: References, stored: StoredRefcounts): boolean {
  const { image, findings, expected } = references;
  const { clusterSize } = image.geometry;
  const { refcount_table_offset: offset, refcount_table_clusters: clusters } = image.header.fields;
  let sound = references.table(offset, clusters * clusterSize, 'the refcount table');
  for (let index = 0; index < stored.blocks; index += 1) {
    const block = stored.blockOffset(index);
    if (block === 0) continue;
    if (!references.table(block, clusterSize, `refcount block ${index}`)) sound = false;
    else if (expected.get(block / clusterSize) !== 1) {
      findings.corruption(`refcount block ${index} at ${block} is used for something else as well`);
      sound = false;
    }
  }
  return sound;
}

/** Compares every refcount; repairs in place where asked and possible. Returns whether a referenced cluster has no block. */
export async function compareRefcounts(check: RefcountCheck): Promise<boolean> {
  const { stored, expected } = check;
  const { blockEntries } = stored.image.geometry;
  const blocks = Math.max(stored.blocks, Math.ceil(expected.end / blockEntries));
  let uncovered = false;
  for (let index = 0; index < blocks; index += 1) {
    const present = await stored.loadBlock(index);
    if (!present && !expected.anyIn(index * blockEntries, blockEntries)) continue;
    if (!present) uncovered = true;
    for (let entry = 0; entry < blockEntries; entry += 1) {
      const cluster = index * blockEntries + entry;
      const actual = present ? stored.get(entry) : 0;
      const wanted = expected.get(cluster);
      if (actual !== wanted) await report(check, { cluster, actual, wanted, present });
    }
  }
  return uncovered;
}

async function report(
  check: RefcountCheck,
  found: { cluster: number; actual: number; wanted: number; present: boolean },
): Promise<void> {
  const { findings, repair, refcounts } = check;
  const { cluster, actual, wanted, present } = found;
  const leak = actual > wanted;
  const fixes = present && refcounts !== undefined && (repair === 'all' || (repair === 'leaks' && leak));
  const text = `cluster ${cluster} has refcount ${actual}, but ${wanted} references`;
  if (leak) findings.leak(`Leaked ${text}`, fixes);
  else findings.corruption(`In use: ${text}`, fixes);
  if (!fixes) return;
  while (!refcounts.trySet(cluster, wanted)) await refcounts.loadPage(cluster);
}
