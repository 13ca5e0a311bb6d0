import createDebug from 'debug';
import { BlockError, errnoOf } from '../../src/block/errors.ts';
import type { FuseDevice } from '../../src/sys/fuse-device.ts';
import { unmountFileSystem } from '../../src/sys/fuse-device.ts';
import { helperUnmount } from '../../src/sys/fuse-helper.ts';
import type { MountEntry } from '../../src/sys/fuse-mountpoint.ts';
import { listMounts } from '../../src/sys/fuse-mountpoint.ts';
import { mountThroughHelper } from '../mount-helper.ts';
import { mountDirectly } from './dev-fuse.ts';
import type { MountPlan } from './plan.ts';

const log = createDebug('blockfuse:fuse');

const isRoot = (): boolean => process.geteuid?.() === 0;
const isRefused = (error: unknown): boolean =>
  error instanceof BlockError && (error.code === 'EPERM' || error.code === 'EACCES');

/** Mounts as root itself, else (or as a root that may not) through fusermount3. */
export async function connect(plan: MountPlan): Promise<FuseDevice> {
  if (!isRoot()) return mountThroughHelper(plan);
  try {
    return await mountDirectly(plan);
  } catch (error) {
    if (!isRefused(error)) throw error;
    return mountThroughHelper(plan).catch(() => {
      throw withHint(plan, error);
    });
  }
}

function withHint(plan: MountPlan, error: unknown): BlockError {
  const { path } = plan.at;
  const text = `Cannot mount "${path}": not permitted, the capability CAP_SYS_ADMIN or a working fusermount3 is needed`;
  return new BlockError(errnoOf(error), text, { path }, error);
}

/** EBUSY while somebody uses it, unless `lazy`: then it goes when nobody does any more. */
export async function disconnect(mountpoint: string, lazy = false): Promise<void> {
  if (!isRoot()) return helperUnmount(mountpoint, lazy);
  try {
    return await unmountFileSystem(mountpoint, lazy);
  } catch (error) {
    if (!isRefused(error)) throw error;
    return helperUnmount(mountpoint, lazy).catch(() => {
      throw error;
    });
  }
}

/** What is mounted at a path, on top of whatever else is. */
export const topMount = (path: string): MountEntry | undefined =>
  listMounts().findLast((entry) => entry.target === path);

/** After its server has ended: a mount that nobody unmounted (aborted, or a bug here) only gives ENOTCONN. */
export async function removeDeadMount(entry: MountEntry | undefined): Promise<void> {
  if (entry === undefined || topMount(entry.target)?.device !== entry.device) return;
  await disconnect(entry.target, true).catch((error: unknown) => {
    log('dead mount stays: %s', error);
  });
}
