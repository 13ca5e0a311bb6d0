import { BlockError } from '../../src/block/errors.ts';
import { BlockFile } from '../block-file.ts';
import type { Cancellable } from '../export.ts';
import type { Inode, OwnerChange } from '../inode.ts';
import { timeNow } from '../inode.ts';
import type { TimeSpec } from '../protocol/attributes.ts';
import { encodeAttrOut } from '../protocol/attributes.ts';
import { SetattrField } from '../protocol/constants.ts';
import { SetattrIn } from '../protocol/layout.ts';
import type { RequestView } from '../protocol/request.ts';
import { defineOperation } from '../state.ts';

/**
 * chmod, chown and touch are kept as long as the mount lives. A new size needs a growable export. Opening a disk of fixed
 * size with O_TRUNC changes nothing, as with a block device, so that `cp` and `dd` onto it work; ftruncate is EPERM.
 */
export const setattr = defineOperation({
  kind: 'later',
  async run(state, request, owner) {
    const inode = state.inodes.get(request.nodeId);
    const valid = request.u32(SetattrIn.valid);
    const change = ownerChange(request, valid);
    const size = has(valid, SetattrField.size) ? request.u64(SetattrIn.size) : undefined;
    if (size !== undefined && !isIgnoredTruncation(inode, valid, size)) await resizeDisk(inode, size, owner);
    if (changesOwner(valid)) inode.change(change);
    return encodeAttrOut(inode.attributes(), { entry: inode.validity, attributes: inode.validity });
  },
});

function ownerChange(request: RequestView, valid: number): OwnerChange {
  return {
    mode: has(valid, SetattrField.mode) ? request.u32(SetattrIn.mode) : undefined,
    uid: has(valid, SetattrField.uid) ? request.u32(SetattrIn.uid) : undefined,
    gid: has(valid, SetattrField.gid) ? request.u32(SetattrIn.gid) : undefined,
    atime: timeOf(request, valid, { set: SetattrField.atime, now: SetattrField.atimeNow, field: 'atime' }),
    mtime: timeOf(request, valid, { set: SetattrField.mtime, now: SetattrField.mtimeNow, field: 'mtime' }),
  };
}

interface TimeField {
  readonly set: number;
  readonly now: number;
  readonly field: 'atime' | 'mtime';
}

function timeOf(request: RequestView, valid: number, time: TimeField): TimeSpec | undefined {
  if (!has(valid, time.set)) return undefined;
  if (has(valid, time.now)) return timeNow();
  return { sec: request.seconds(SetattrIn[time.field]), nsec: request.u32(SetattrIn[`${time.field}Nsec`]) };
}

const OWNER_FIELDS =
  SetattrField.mode + SetattrField.uid + SetattrField.gid + SetattrField.atime + SetattrField.mtime;
const changesOwner = (valid: number): boolean => (valid & OWNER_FIELDS) !== 0;
const has = (valid: number, field: number): boolean => (valid & field) !== 0;

/** O_TRUNC comes as size 0 without a handle. */
function isIgnoredTruncation(inode: Inode, valid: number, size: number): boolean {
  if (!(inode instanceof BlockFile) || size !== 0 || has(valid, SetattrField.handle)) return false;
  return inode.export.options.writable && !inode.export.options.growable;
}

/** EPERM for a size that is fixed. */
export async function resizeDisk(inode: Inode, size: number, owner: Cancellable): Promise<void> {
  if (!(inode instanceof BlockFile)) throw new BlockError('EPERM', 'Cannot resize: it is no disk');
  const { options, label } = inode.export;
  if (size === inode.export.size) return;
  if (!options.writable) throw new BlockError('EROFS', `Cannot resize ${label}: it is read-only`);
  if (!options.growable) throw new BlockError('EPERM', `Cannot resize ${label}: it is not growable`);
  await inode.export.run(owner, (root) => inode.export.resize(root, size));
  inode.touch();
}
