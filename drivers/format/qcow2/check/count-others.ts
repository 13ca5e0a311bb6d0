import { ExtensionType } from '../extensions.ts';
import type { SnapshotTable } from '../snapshots.ts';
import { readU64 } from '../u64.ts';
import type { References } from './references.ts';

/** The header, the snapshot table, and the encryption header. */
export function countOthers(references: References, snapshots: SnapshotTable): void {
  const { image } = references;
  const { fields } = image.header;
  references.table(0, image.geometry.clusterSize, 'the header');
  if (fields.nb_snapshots > 0)
    references.table(fields.snapshots_offset, snapshots.length, 'the snapshot table');
  for (const { type, data } of image.extensions) {
    if (type === ExtensionType.encryption && data.length >= 16) {
      references.table(readU64(data, 0), readU64(data, 8), 'the encryption header');
    }
  }
}
