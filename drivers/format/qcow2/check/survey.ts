import type { CheckOptions } from '../../../../src/block/driver.ts';
import { ClusterMap } from '../cluster-map.ts';
import { encryptionHeaderPlace } from '../encryption.ts';
import type { Image } from '../image.ts';
import { hostOffset } from '../l2-entry.ts';
import { apart } from './apart.ts';
import { checkCopiedFlags } from './check-copied.ts';
import { compareRefcounts } from './compare-refcounts.ts';
import type { Comparison } from './compare-refcounts.ts';
import { countBitmaps } from './count-bitmaps.ts';
import { countL1, eachL1Entry } from './count-l1.ts';
import type { L1Location } from './count-l1.ts';
import { L2Counter } from './count-l2.ts';
import { countBlocks, countRefcountTable, findBlocks } from './count-refcounts.ts';
import { countSnapshots } from './count-snapshots.ts';
import type { CountedSnapshots } from './count-snapshots.ts';
import { Findings } from './findings.ts';
import { References } from './references.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

type Report = CheckOptions['progress'];

/** What one look at a whole image found. Nothing was written. */
export interface Survey {
  readonly references: References;
  readonly findings: Findings;
  readonly stored: StoredRefcounts;
  readonly comparison: Comparison;
  readonly snapshots: CountedSnapshots;
  /** What is wrong with the persistent bitmaps. */
  readonly bitmaps: string | undefined;
  /** The refcount structures can't be repaired where they are. */
  readonly needsRebuild: boolean;
}

/**
 * Counts how often tables name each cluster, compares that with the refcounts and the flags, and looks at each entry of each
 * table. Nothing else may use the image, and nothing may be dirty.
 */
export async function survey(image: Image, report: Report): Promise<Survey> {
  const references = new References(image, new Findings());
  const { findings } = references;
  const stored = await StoredRefcounts.load(image);
  const steps = new Steps(report, stored.present);
  const hasTable = countRefcountTable(references);
  findBlocks(references, stored);
  const { snapshots, bitmaps } = await countAll(references, steps);
  const isSound = countBlocks(references, stored);
  const comparison = await compareRefcounts(references, stored, () => steps.next());
  await checkCopiedFlags({
    references,
    isOne: (cluster) => comparison.isOne(cluster),
    wrong: (message) => {
      findings.corruption(message);
      findings.wrongFlags += 1;
    },
    repairs: false,
    step: () => steps.next(),
  });
  findings.totalClusters = Math.ceil(image.size / image.geometry.clusterSize);
  const needsRebuild = !hasTable || !isSound || comparison.isUncovered;
  return { references, findings, stored, comparison, snapshots, bitmaps, needsRebuild };
}

/** Counts how often each cluster is named by anything but the refcount structures. */
export async function countReferences(image: Image, report: Report): Promise<References> {
  const references = new References(image, new Findings());
  await countAll(references, new Steps(report, 0));
  return references;
}

async function countAll(
  references: References,
  steps: Steps,
): Promise<{ snapshots: CountedSnapshots; bitmaps: string | undefined }> {
  const { image } = references;
  const { l1_table_offset: offset, l1_size: entries } = image.header.fields;
  references.countFixed(0, image.geometry.clusterSize, 'the header');
  const active = { offset, from: 0, entries, times: 1, what: 'the L1 table', active: true };
  const hasL1 = references.countFixed(offset, entries * 8, active.what);
  if (!hasL1) {
    references.isCutShort = true;
    references.cutL1 = references.isInFile(offset);
  }
  const { snapshots, l1s } = await countSnapshots(references);
  const encryption = encryptionHeaderPlace(image.extensions);
  references.countFixed(encryption.offset, encryption.length, 'the encryption header');
  const bitmaps = await countBitmaps(references);
  const inactive = apart(l1s);
  await countMappings(references, hasL1 ? [active, ...inactive] : inactive, steps);
  return { snapshots, bitmaps };
}

/** Each L2 table is read once, however many L1 tables name it: first it is counted how many do. */
async function countMappings(
  references: References,
  l1s: readonly L1Location[],
  steps: Steps,
): Promise<void> {
  const uses = new ClusterMap();
  for (const [index, l1] of l1s.entries()) {
    await countL1(references, l1, uses);
    if (index === 0) steps.active = uses.size;
  }
  steps.tables = uses.size;
  const counter = new L2Counter(references);
  const { clusterSize, tableSpan } = references.image.geometry;
  for (const l1 of l1s) {
    await eachL1Entry(references, l1, async ({ high, low, index }) => {
      const table = hostOffset(high, low);
      const times = table % clusterSize === 0 ? uses.get(table / clusterSize) : 0;
      if (times === 0) return;
      uses.set(table / clusterSize, 0);
      await counter.count({ table, times, guest: index * tableSpan, active: l1.active });
      steps.next();
    });
  }
}

/** Tables read and to be read. */
class Steps {
  tables = 0;
  /** L2 tables of the disk as it is: read a second time, for their flags. */
  active = 0;
  private readonly blocks: number;
  private readonly report: Report;
  private done = 0;

  constructor(report: Report, blocks: number) {
    this.report = report;
    this.blocks = blocks;
  }

  next(): void {
    this.done += 1;
    const total = Math.max(this.done, this.tables + this.active + this.blocks);
    this.report?.(this.done, total);
  }
}
