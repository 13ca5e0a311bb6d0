import { ClusterCounts } from './cluster-counts.ts';
import type { References } from './references.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** What is stored for clusters whose refcount is not what it ought to be. */
const Differs = { one: 1, other: 2, unreadable: 3 } as const;

/** Result of comparing all refcounts with the references. */
export class Comparison {
  /** A referenced cluster has no block that could count it. */
  isUncovered = false;
  private readonly references: References;
  private readonly differing: ClusterCounts;

  constructor(references: References) {
    this.references = references;
    this.differing = new ClusterCounts(references.image.subject);
  }

  note(cluster: number, stored: number | undefined): void {
    this.differing.set(
      cluster,
      stored === undefined ? Differs.unreadable : stored === 1 ? Differs.one : Differs.other,
    );
  }

  /** Whether the refcount that is stored is one; undefined where it can't be read. */
  isOne(cluster: number): boolean | undefined {
    const differs = this.differing.get(cluster);
    if (differs === Differs.unreadable) return undefined;
    return differs === 0 ? this.references.counts.get(cluster) === 1 : differs === Differs.one;
  }
}

/** Compares every refcount of the file's clusters. */
export async function compareRefcounts(
  references: References,
  stored: StoredRefcounts,
  step: () => void,
): Promise<Comparison> {
  const { counts, findings, image } = references;
  const { blockEntries, clusterSize } = image.geometry;
  const comparison = new Comparison(references);
  const end = Math.max(references.fileClusters, counts.end);
  const actuals = new Float64Array(Math.min(blockEntries, end));
  const wanteds = new Float64Array(Math.min(blockEntries, end));
  let highest = 0;
  for (let index = 0; index * blockEntries < end; index += 1) {
    const first = index * blockEntries;
    const entries = Math.min(blockEntries, end - first);
    const state = stored.state(index);
    if (state === 'absent' && !counts.anyIn(first, entries)) continue;
    step();
    if (state === 'unreadable') {
      findings.error(`The refcounts of clusters ${first} to ${first + entries} can't be read`, entries);
      for (let entry = 0; entry < entries; entry += 1) comparison.note(first + entry, undefined);
      continue;
    }
    if (state === 'present') {
      await stored.loadBlock(index);
      stored.copy(actuals.subarray(0, entries));
    } else actuals.fill(0);
    counts.copy(first, wanteds.subarray(0, entries));
    for (let entry = 0; entry < entries; entry += 1) {
      const actual = actuals[entry] ?? 0;
      const wanted = wanteds[entry] ?? 0;
      const cluster = first + entry;
      if (actual !== 0 || wanted !== 0) highest = cluster;
      if (actual === wanted) continue;
      if (state === 'absent') comparison.isUncovered = true;
      comparison.note(cluster, actual);
      const text = `cluster ${cluster} has refcount ${actual}, but ${wanted} references`;
      if (actual > wanted) findings.leak(`Leaked ${text}`);
      else findings.corruption(`In use: ${text}`);
    }
  }
  findings.imageEndOffset = (highest + 1) * clusterSize;
  return comparison;
}
