import type { L1Location } from './count-l1.ts';
import type { References } from './references.ts';
import {
  describeSnapshot,
  hasTooMuchExtra,
  isBlank,
  isIncomplete,
  parseList,
  readList,
  SNAPSHOTS_MAX,
} from './snapshot-list.ts';
import type { ListedSnapshot } from './snapshot-list.ts';

/** The snapshot table as it was found. */
export interface CountedSnapshots {
  /** Those that can't be used as they are. */
  readonly lost: readonly ListedSnapshot[];
  /** A new table has to be written. */
  readonly needsRepair: boolean;
}

const NONE: CountedSnapshots = { lost: [], needsRepair: false };

/** Counts the snapshot table, and the L1 tables that it names. Returns where those are that can be read. */
export async function countSnapshots(
  references: References,
): Promise<{ snapshots: CountedSnapshots; l1s: L1Location[] }> {
  const { image, findings } = references;
  const { nb_snapshots: count, snapshots_offset: offset } = image.header.fields;
  if (count === 0) return { snapshots: NONE, l1s: [] };
  const { clusterSize } = image.geometry;
  if (!(offset >= clusterSize) || offset % clusterSize !== 0) {
    findings.error(
      `the snapshot table is at ${offset}, must be a multiple of the cluster size ${clusterSize}`,
    );
    references.isCutShort = true;
    return { snapshots: { lost: [], needsRepair: true }, l1s: [] };
  }
  if (count > SNAPSHOTS_MAX)
    findings.error(`the image has ${count} snapshots, must have at most ${SNAPSHOTS_MAX}`);
  if (image.external)
    findings.corruption(`the image has ${count} snapshots and an external data file, can't have both`);
  const list = parseList(await readList(image, offset), references);
  const length = list.at(-1)?.end ?? 0;
  references.countFixed(offset, length, 'the snapshot table');
  const l1s = list.map((listed) => countEntry(references, listed)).filter((l1) => l1 !== undefined);
  const lost = list.filter(({ unusable }) => unusable !== undefined);
  const needsRepair =
    image.external ||
    lost.length > 0 ||
    count > SNAPSHOTS_MAX ||
    list.some((listed) => needsRewrite(listed, references));
  if (needsRepair) references.isCutShort = true;
  return { snapshots: { lost, needsRepair }, l1s };
}

function needsRewrite({ snapshot }: ListedSnapshot, { image }: References): boolean {
  return isIncomplete(snapshot, image) || hasTooMuchExtra(snapshot);
}

function countEntry(references: References, listed: ListedSnapshot): L1Location | undefined {
  const { findings, image } = references;
  const { snapshot, unusable } = listed;
  const what = describeSnapshot(listed);
  if (hasTooMuchExtra(snapshot)) findings.error(`${what} has ${snapshot.extra.length} bytes of extra data`);
  if (isIncomplete(snapshot, image))
    findings.corruption(`${what} has ${snapshot.extra.length} bytes of extra data, must have at least 16`);
  if (unusable !== undefined) {
    if (!isBlank(snapshot)) findings.corruption(`${what} can't be used: ${unusable}`);
    return undefined;
  }
  const { l1Offset: offset, l1Entries: entries } = snapshot;
  const table = `the L1 table of ${what}`;
  references.countFixed(offset, entries * 8, table);
  return { offset, from: 0, entries, times: 1, what: table, active: false };
}
