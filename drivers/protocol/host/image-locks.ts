/**
 * QEMU's locks on image files: byte 100+i says "I use permission i", byte 200+i "I do not share permission i". All are shared
 * locks. A conflict is somebody else's lock on 200+i for a permission wanted, or on 100+i for one not shared.
 *
 * Locks are taken first, for the old and the new permissions together, then the others' are looked at, then what is not
 * needed any more is dropped: two programs that start at once both see each other.
 * They live on a descriptor of their own, so that reopening the image never leaves it unlocked.
 */
import { BlockError } from '../../../src/block/errors.ts';
import type { PermissionChange } from '../../../src/block/driver.ts';
import type { PermissionPair, Permissions } from '../../../src/block/permissions.ts';
import { ALL_PERMISSIONS, Permission, PERMISSION_NAMES } from '../../../src/block/permissions.ts';
import { hasByteLocks, isByteLockedByOthers, lockByte, unlockByte } from '../../../src/sys/byte-locks.ts';
import type { OpenFile } from '../../../src/sys/file.ts';
import { closeNow, openForLocks } from '../../../src/sys/file.ts';
import type { LockHolder } from '../../../src/sys/lock-holder.ts';
import { lockHolders } from '../../../src/sys/lock-holder.ts';

const USED = 100;
const UNSHARED = 200;
const NAMED_HOLDERS = 3;

export type Locking = 'auto' | 'on' | 'off';

/** The locks for an open image; undefined where there are none to be had and `locking` allows that. */
export function imageLocks(file: OpenFile, locking: Locking): ImageLocks | undefined {
  if (locking === 'off') return undefined;
  const fd = tryOpen(file.fd);
  if (fd !== undefined && hasByteLocks(fd)) return new ImageLocks({ fd, path: file.path });
  if (fd !== undefined) closeNow(fd);
  if (locking === 'auto') return undefined;
  const text = `Cannot lock image "${file.path}": its file system has no byte locks, use locking=auto or locking=off`;
  throw new BlockError('ENOTSUP', text, { path: file.path });
}

export class ImageLocks {
  /** Only reads: takes no more than the lock that says so, and does not mind the locks of others. */
  forceShare = false;
  private readonly file: OpenFile;
  private used: Permissions = 0;
  private unshared: Permissions = 0;

  /** @param file a descriptor that nothing else uses; closed with the locks */
  constructor(file: OpenFile) {
    this.file = file;
  }

  setPermissions(wanted: PermissionPair): PermissionChange {
    const old = { used: this.used, unshared: this.unshared };
    const used = this.forceShare ? wanted.used & Permission.consistentRead : wanted.used;
    const unshared = this.forceShare ? 0 : ALL_PERMISSIONS & ~wanted.shared;
    try {
      this.hold(this.used | used, this.unshared | unshared);
      if (!this.forceShare) this.refuseConflicts(used, unshared);
    } catch (error) {
      this.hold(old.used, old.unshared);
      throw error;
    }
    return {
      commit: () => this.hold(used, unshared),
      abort: () => this.hold(old.used, old.unshared),
    };
  }

  /** Unlocks first: the file may be open under other numbers that share the locks. */
  close(): void {
    this.hold(0, 0);
    closeNow(this.file.fd);
  }

  /** Makes the locks those of exactly these permissions. */
  private hold(used: Permissions, unshared: Permissions): void {
    for (const bit of PERMISSION_NAMES.keys()) {
      const mask = 2 ** bit;
      if ((used & mask) !== (this.used & mask)) this.set(USED + bit, (used & mask) !== 0);
      this.used = (this.used & ~mask) | (used & mask);
      if ((unshared & mask) !== (this.unshared & mask)) this.set(UNSHARED + bit, (unshared & mask) !== 0);
      this.unshared = (this.unshared & ~mask) | (unshared & mask);
    }
  }

  private set(byte: number, locked: boolean): void {
    if (!locked) unlockByte(this.file.fd, byte);
    else if (!lockByte(this.file.fd, byte)) throw this.conflict(byte);
  }

  private refuseConflicts(used: Permissions, unshared: Permissions): void {
    for (const bit of PERMISSION_NAMES.keys()) {
      const mask = 2 ** bit;
      if ((used & mask) !== 0) this.refuseOthers(UNSHARED + bit);
      if ((unshared & mask) !== 0) this.refuseOthers(USED + bit);
    }
  }

  private refuseOthers(byte: number): void {
    if (isByteLockedByOthers(this.file.fd, byte)) throw this.conflict(byte);
  }

  private conflict(byte: number): BlockError {
    const { path, fd } = this.file;
    const isUnshared = byte >= UNSHARED;
    const name = PERMISSION_NAMES[byte % 100]?.replace('-', ' ') ?? 'image';
    // The words in the middle are QEMU's: people search for them.
    const failed = isUnshared ? `Failed to get "${name}" lock` : `Failed to get shared "${name}" lock`;
    const why = isUnshared ? `uses the image and does not share "${name}"` : `uses the image for "${name}"`;
    const text =
      `Cannot lock image "${path}": ${failed}: ${holderText(lockHolders(fd, byte))} ${why}. Stop it first, ` +
      `or read the image while it changes with --force-share --read-only`;
    return new BlockError('EBUSY', text, { path });
  }
}

function holderText(holders: readonly LockHolder[]): string {
  if (holders.length === 0) return 'another program, which /proc does not show from here,';
  const named = holders.slice(0, NAMED_HOLDERS).map(({ pid, command }) => {
    const own = pid === process.pid ? ', this very process' : '';
    return `process ${pid} (${command}${own})`;
  });
  return named.join(' and ');
}

function tryOpen(fd: number): number | undefined {
  try {
    return openForLocks(fd);
  } catch {
    return undefined;
  }
}
