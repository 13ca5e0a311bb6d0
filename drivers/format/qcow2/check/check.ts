import type { CheckOptions, CheckResult } from '../../../../src/block/driver.ts';
import type { Reader, Writer } from '../build.ts';
import { Incompatible } from '../features.ts';
import type { Image } from '../image.ts';
import type { SnapshotList } from '../snapshots.ts';
import { readSnapshots } from '../snapshots.ts';
import type { Findings } from './findings.ts';
import { RepairLog } from './findings.ts';
import { repairAll, repairLeaks } from './repair.ts';
import { survey } from './survey.ts';

export interface CheckedImage {
  readonly image: Image;
  readonly reader: Reader;
  /** Needed for repairs. */
  readonly writer: Writer | undefined;
  readonly snapshots: SnapshotList;
}

/**
 * Looks at every table of an image; a repair is followed by another look, which tells what is left. Nothing else may use the
 * image, and everything must be written back before the call. After a repair the caches hold what is on disk.
 */
export async function checkImage(checked: CheckedImage, options: CheckOptions): Promise<CheckResult> {
  const { image, writer } = checked;
  const { repair } = options;
  const progress = (done: number, total: number): void => options.progress?.(done, total);
  const before = await survey(image, progress);
  const log = new RepairLog();
  if (writer === undefined || repair === 'none') return resultOf(before.findings, before.findings, log);
  const mends = repair === 'all' ? repairAll : repairLeaks;
  const after = before.findings.isSound ? before : await mends({ image, writer, progress }, before, log);
  if (after !== before) await reload(checked);
  await clearBits(image, after.findings);
  return resultOf(before.findings, after.findings, log);
}

/** What is in memory is what stood there before the repair. */
async function reload({ image, reader, writer, snapshots }: CheckedImage): Promise<void> {
  reader.l2.store.cache.clear();
  writer?.refcounts.store.cache.clear();
  await reader.l1.reload();
  snapshots.replace(await readSnapshots(image.file, image.header.fields, image.subject));
}

async function clearBits(image: Image, { corruptions, checkErrors }: Findings): Promise<void> {
  if (corruptions + checkErrors > 0) return;
  const { incompatible_features: bits } = image.header.fields;
  const damaged = Incompatible.dirty | Incompatible.corrupt;
  if ((bits & damaged) !== 0n) await image.header.update({ incompatible_features: bits & ~damaged });
}

/** What was found and is there no more was repaired. */
function resultOf(before: Findings, after: Findings, log: RepairLog): CheckResult {
  const errors = ({ corruptions, checkErrors }: Findings): number => corruptions + Math.min(1, checkErrors);
  const corruptionsFixed = Math.max(0, errors(before) - errors(after));
  const leaksFixed = Math.max(0, before.leaks - after.leaks);
  const left = before === after || after.isSound ? [] : ['Left after the repair:', ...after.messages.list];
  return {
    corruptions: after.corruptions + corruptionsFixed,
    leaks: after.leaks + leaksFixed,
    checkErrors: after.checkErrors,
    corruptionsFixed,
    leaksFixed,
    imageEndOffset: after.imageEndOffset,
    totalClusters: after.totalClusters,
    allocatedClusters: after.allocatedClusters,
    fragmentedClusters: after.fragmentedClusters,
    compressedClusters: after.compressedClusters,
    messages: [...before.messages.list, ...log.messages.list, ...left],
  };
}
