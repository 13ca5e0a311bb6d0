import type { Image } from '../image.ts';
import { encodeSnapshot } from '../snapshot/entry.ts';
import type { Snapshot } from '../snapshots.ts';
import { EXTRA_MAX } from '../snapshots.ts';
import type { RepairLog } from './findings.ts';
import { recoverSnapshots } from './recover-snapshots.ts';
import { describeSnapshot } from './snapshot-list.ts';
import type { Survey } from './survey.ts';

/** Writes the snapshots that can be used to a new table behind everything else, then the header names it. */
export async function repairSnapshots(image: Image, found: Survey, log: RepairLog): Promise<void> {
  const { nb_snapshots: count } = image.header.fields;
  // Beside a data file writes changed what they have: nothing of worth is lost with them.
  const snapshots = image.external ? [] : await recoverSnapshots(found);
  await writeList(image, found, withIds(snapshots));
  const isKept = (id: string, name: string): boolean =>
    snapshots.some((snapshot) => snapshot.id === id && snapshot.name === name);
  const names = snapshots.map(({ id, name }) => `"${name}" (id "${id}")`).join(', ');
  log.did(`the snapshot table was written anew, with ${snapshots.length} of ${count} entries: ${names}`);
  if (snapshots.length === count) return;
  for (const listed of found.snapshots.lost) {
    const { id, name } = listed.snapshot;
    if (!isKept(id, name)) log.gaveUp(`${describeSnapshot(listed)}: ${listed.unusable ?? ''}`);
  }
  log.gaveUp(`${count - snapshots.length} entries of the snapshot table, with all that only they name`);
}

async function writeList(image: Image, found: Survey, snapshots: readonly Snapshot[]): Promise<void> {
  if (snapshots.length === 0) {
    await image.header.update({ nb_snapshots: 0, snapshots_offset: 0 });
    return;
  }
  const { clusterSize } = image.geometry;
  const { file } = image;
  const { size } = file;
  const cluster = Math.max(found.references.counts.end, Math.ceil(size / clusterSize));
  const list = Buffer.concat(snapshots.map((snapshot) => encodeSnapshot(shortened(snapshot))));
  const bytes = Buffer.alloc(Math.ceil(list.length / clusterSize) * clusterSize);
  list.copy(bytes);
  const offset = cluster * clusterSize;
  try {
    await file.write(bytes, offset);
    await file.flush();
  } catch (error) {
    await file.resize(size, true).catch(() => undefined);
    throw error;
  }
  await image.header.update({ nb_snapshots: snapshots.length, snapshots_offset: offset });
}

/** The first of the extra data is what the specification knows. */
function shortened(snapshot: Snapshot): Snapshot {
  const { extra } = snapshot;
  return extra.length <= EXTRA_MAX ? snapshot : { ...snapshot, extra: extra.subarray(0, EXTRA_MAX) };
}

/** Ids are unique; one that is not, any more, becomes another. */
function withIds(snapshots: readonly Snapshot[]): Snapshot[] {
  const taken = new Set<string>();
  let next = Math.max(0, ...snapshots.map(({ id }) => Number(id)).filter(Number.isSafeInteger)) + 1;
  return snapshots.map((snapshot) => {
    if (!taken.has(snapshot.id)) {
      taken.add(snapshot.id);
      return snapshot;
    }
    const id = `${next}`;
    next += 1;
    return { ...snapshot, id, idBytes: Buffer.from(id) };
  });
}
