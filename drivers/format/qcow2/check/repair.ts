/**
 * Repairs in an order in which each step leaves the image no worse, wherever an error or a crash ends it; a second repair
 * goes on from there:
 *
 *   1  entries of tables are mended or given up, until nothing more is found: at worst clusters are leaked
 *   2  refcounts that are too low are raised in place, or all are made anew behind everything else
 *   3  flags of unshared clusters follow the refcounts
 *   4  refcounts that are too high are lowered: only now is anything free
 *   5  another look at everything; when nothing is left the dirty and corrupt bits are cleared (check.ts)
 */
import type { CheckOptions } from '../../../../src/block/driver.ts';
import type { Writer } from '../build.ts';
import type { Image } from '../image.ts';
import { checkCopiedFlags } from './check-copied.ts';
import type { RepairLog } from './findings.ts';
import { rebuildFromScratch } from './rebuild.ts';
import { repairTables } from './repair-tables.ts';
import { setRefcounts } from './set-refcounts.ts';
import { countReferences, survey } from './survey.ts';
import type { Survey } from './survey.ts';

/** Each look finds what the entries mended before it name; an image that takes more is repaired by another call. */
const ROUNDS_MAX = 100;

export interface Repair {
  readonly image: Image;
  readonly writer: Writer;
  readonly progress: CheckOptions['progress'];
}

export async function repairAll(repair: Repair, before: Survey, log: RepairLog): Promise<Survey> {
  const { image, progress } = repair;
  let found = before;
  for (let round = 0; round < ROUNDS_MAX && (await repairTables(image, found, log)); round += 1)
    found = await survey(image, progress);
  const { findings, references } = found;
  if (findings.isSound) return found;
  if (references.isCutShort) {
    log.messages.add('No cluster was freed: something that names clusters can not be read.');
    if (!found.needsRebuild) await setRefcounts(references, 'too low');
  } else if (found.needsRebuild) await rebuild(repair, log);
  else {
    await setRefcounts(references, 'too low');
    await setFlags(found, log);
    await setRefcounts(references, 'too high');
  }
  if (found.needsRebuild && !references.isCutShort) {
    const rebuilt = await survey(image, progress);
    await setFlags(rebuilt, log);
  }
  return survey(image, progress);
}

/** Frees what nothing names. Flags follow where nothing else is wrong. */
export async function repairLeaks(repair: Repair, before: Survey, log: RepairLog): Promise<Survey> {
  const { image, progress } = repair;
  const { references, findings } = before;
  if (findings.leaks === 0) return before;
  if (references.isCutShort) {
    log.messages.add('No cluster was freed: something that names clusters can not be read. Repair all.');
    return before;
  }
  await setRefcounts(references, 'too high');
  const after = await survey(image, progress);
  const { corruptions, wrongFlags, leaks, checkErrors } = after.findings;
  if (wrongFlags === 0 || corruptions > wrongFlags || leaks + checkErrors > 0) return after;
  await setFlags(after, log);
  return survey(image, progress);
}

async function rebuild({ image, writer, progress }: Repair, log: RepairLog): Promise<void> {
  const { counts } = await countReferences(image, progress);
  const { table, offset } = await rebuildFromScratch(image, counts);
  writer.refcounts.store.cache.clear();
  writer.refcounts.table.moveTo(table, offset);
  log.did(`all refcounts were made anew, at ${offset}`);
}

async function setFlags({ references }: Survey, log: RepairLog): Promise<void> {
  let changed = 0;
  await checkCopiedFlags({
    references,
    isOne: (cluster) => references.counts.get(cluster) === 1,
    wrong: () => {
      changed += 1;
    },
    repairs: true,
    step: () => {},
  });
  if (changed > 0) log.did(`${changed} flags of unshared clusters`);
}
