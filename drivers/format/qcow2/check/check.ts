import type { CheckOptions } from '../../../../src/block/driver.ts';
import type { Reader, Writer } from '../build.ts';
import type { Image } from '../image.ts';
import { Incompatible } from '../features.ts';
import type { SnapshotTable } from '../snapshots.ts';
import { checkCopiedFlags } from './check-copied.ts';
import { compareRefcounts, countRefcountTables } from './check-refcounts.ts';
import { countBitmaps } from './count-bitmaps.ts';
import { countMapping } from './count-mapping.ts';
import { countOthers } from './count-others.ts';
import { ExpectedRefcounts } from './expected-refcounts.ts';
import { Findings } from './findings.ts';
import { References } from './references.ts';
import { rebuildFromScratch } from './rebuild.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

export interface CheckedImage {
  readonly image: Image;
  readonly reader: Reader;
  /** Needed for repairs. */
  readonly writer: Writer | undefined;
  readonly snapshots: SnapshotTable;
}

/**
 * Counts how often the tables name each cluster and compares that with the refcounts. Nothing else may use the image,
 * and everything must be written back before the call. After a repair the caches hold what is on disk.
 */
export async function checkImage(checked: CheckedImage, options: CheckOptions): Promise<Findings> {
  const { image } = checked;
  const references = await countReferences(checked, options);
  const { findings } = references;
  await checkRefcounts(checked, references, options);
  await checkCopiedFlags({ references, repair: checked.writer === undefined ? 'none' : options.repair });
  findings.totalClusters = Math.ceil(image.size / image.geometry.clusterSize);
  findings.imageEndOffset = references.expected.end * image.geometry.clusterSize;
  await finish(checked, findings, options);
  return findings;
}

/** Counts how often each cluster is named by anything but the refcount structures. */
export async function countReferences(checked: CheckedImage, options: CheckOptions): Promise<References> {
  const { image, snapshots } = checked;
  const references = new References(image, new ExpectedRefcounts(), new Findings());
  countOthers(references, snapshots);
  await countBitmaps(references, checked.writer === undefined ? 'none' : options.repair);
  await countAllMappings(references, snapshots, options);
  return references;
}

async function countAllMappings(
  references: References,
  snapshots: SnapshotTable,
  options: CheckOptions,
): Promise<void> {
  const { l1_table_offset: offset, l1_size: entries } = references.image.header.fields;
  const total = snapshots.snapshots.length + 1;
  await countMapping(references, { offset, entries, what: 'the L1 table', active: true });
  options.progress?.(1, total);
  for (const [index, { l1Offset, l1Entries, name }] of snapshots.snapshots.entries()) {
    const what = `the L1 table of snapshot "${name}"`;
    await countMapping(references, { offset: l1Offset, entries: l1Entries, what, active: false });
    options.progress?.(index + 2, total);
  }
}

async function checkRefcounts(
  { image, writer }: CheckedImage,
  references: References,
  options: CheckOptions,
): Promise<void> {
  const { findings, expected } = references;
  const stored = await StoredRefcounts.load(image);
  const withoutTables = expected.clone();
  const { repair } = options;
  const sound = countRefcountTables(references, stored);
  const fixes = repair !== 'none' && writer !== undefined && sound;
  const refcounts = fixes ? writer.refcounts : undefined;
  const uncovered = await compareRefcounts({ stored, expected, findings, repair, refcounts });
  if (repair !== 'all' || writer === undefined) return;
  if (sound && !uncovered) return;
  const { table, offset } = await rebuildFromScratch(image, withoutTables);
  references.expected = withoutTables;
  writer.refcounts.store.cache.clear();
  writer.refcounts.table.moveTo(table, offset);
  findings.corruptionsFixed = findings.corruptions;
  findings.leaksFixed = findings.leaks;
}

async function finish(checked: CheckedImage, findings: Findings, options: CheckOptions): Promise<void> {
  const { image, reader, writer } = checked;
  if (writer === undefined || options.repair === 'none') return;
  reader.l2.store.cache.clear();
  await reader.l1.reload();
  await writer.writeback.flushAll();
  if (
    options.repair !== 'all' ||
    findings.corruptions > findings.corruptionsFixed ||
    findings.checkErrors > 0
  )
    return;
  const { incompatible_features: bits } = image.header.fields;
  const damaged = Incompatible.dirty | Incompatible.corrupt;
  if ((bits & damaged) !== 0n) await image.header.update({ incompatible_features: bits & ~damaged });
}
