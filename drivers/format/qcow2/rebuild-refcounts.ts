import { BlockError } from '../../../src/block/errors.ts';
import type { Writer } from './build.ts';
import type { Image } from './image.ts';
import type { SnapshotTable } from './snapshots.ts';

export function rebuildRefcounts(image: Image, _writer: Writer, _snapshots: SnapshotTable): Promise<void> {
  const what = 'the dirty bit is set: its refcounts have to be rebuilt first';
  return Promise.reject(
    new BlockError('ENOTSUP', `Cannot open image "${image.subject}" for writing: ${what}`),
  );
}
