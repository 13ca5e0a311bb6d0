import { alignUp } from '../../../../src/util/sizes.ts';
import { Autoclear } from '../features.ts';
import type { Image } from '../image.ts';
import type { RepairLog } from './findings.ts';
import { looksLikeL2 } from './looks-like-l2.ts';
import { repairSnapshots } from './repair-snapshots.ts';
import type { Survey } from './survey.ts';
import { applyFixes } from './table-fix.ts';
import type { Suspect, TableFix } from './table-fix.ts';
import { unshare } from './unshare.ts';

/**
 * Mends entries of tables, or gives up what they named; frees nothing. Whether anything was changed: then it takes another
 * look to know what is counted how often.
 */
export async function repairTables(image: Image, found: Survey, log: RepairLog): Promise<boolean> {
  const { references, snapshots, bitmaps } = found;
  if (references.cutL1) {
    await completeL1(image, log);
    return true;
  }
  const fixes = [...references.fixes];
  for (const suspect of references.suspects) fixes.push(await settle(found, suspect));
  if (fixes.length > 0) await applyFixes(image, fixes, log);
  if (bitmaps !== undefined) await giveUpBitmaps(image, bitmaps, log);
  if (snapshots.needsRepair) await repairSnapshots(image, found, log);
  const { shared } = references;
  if (fixes.length === 0 && !references.isCutShort && shared.length > 0)
    return unshare(references, shared, log);
  return snapshots.needsRepair || fixes.length > 0 || bitmaps !== undefined;
}

/** The part that is not there reads as zeroes, so it names nothing; with it all that the rest names is counted. */
async function completeL1({ file, header, geometry }: Image, log: RepairLog): Promise<void> {
  const { l1_table_offset: offset, l1_size: entries } = header.fields;
  const { size } = file;
  await file.resize(alignUp(offset + entries * 8, geometry.clusterSize));
  await file.flush();
  const from = Math.floor((size - offset) / 8) * geometry.tableSpan;
  log.gaveUp(
    `the file ended at ${size}, within the L1 table at ${offset}: guest offsets from ${from} on read as if never written`,
  );
}

/** The cluster is counted as used, and nothing else names it: that is where the entry belongs. */
async function settle(found: Survey, { cluster, own, isTable, keep, giveUp }: Suspect): Promise<TableFix> {
  const { references, stored } = found;
  const isFree = references.counts.get(cluster) === own && references.tableAt(cluster) === undefined;
  if (!isFree || !((await stored.read(cluster)) ?? 0)) return giveUp;
  return !isTable || (await looksLikeL2(references, cluster)) ? keep : giveUp;
}

async function giveUpBitmaps(image: Image, why: string, log: RepairLog): Promise<void> {
  const { autoclear_features: bits } = image.header.fields;
  await image.header.update({ autoclear_features: bits & ~Autoclear.bitmaps });
  log.gaveUp(`all persistent bitmaps: ${why}; what used them has to copy everything once`);
}
