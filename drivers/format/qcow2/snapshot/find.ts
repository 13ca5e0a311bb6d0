import { BlockError } from '../../../../src/block/errors.ts';
import type { Snapshot, SnapshotTable } from '../snapshots.ts';

/** The snapshot with that id, else the first one with that name; ENOENT without one. */
export function findSnapshot(
  { snapshots }: SnapshotTable,
  idOrName: string,
  asked: { readonly action: string; readonly subject: string },
): Snapshot {
  const found =
    snapshots.find(({ id }) => id === idOrName) ?? snapshots.find(({ name }) => name === idOrName);
  if (found !== undefined) return found;
  const names = snapshots.slice(0, 20).map(({ name }) => `"${name}"`);
  const known = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
  const text = `Cannot ${asked.action} of image "${asked.subject}": there is no snapshot of that id or name, ${known}`;
  throw new BlockError('ENOENT', text);
}
