/**
 * The second transport: the npm package fuse-native, where /dev/fuse is not to be spoken to directly. It has no fallocate and no
 * lseek, no passthrough and no word to the kernel; nothing is cached by the kernel here (direct_io), since what it cached could not
 * be taken back. It does not tell of an unmount from outside: the table of mounts is asked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountEntry, MountPoint } from '../../src/sys/fuse-mountpoint.ts';
import { backsMount, listMounts } from '../../src/sys/fuse-mountpoint.ts';
import { mountFuseNative } from '../../src/sys/fuse-native.ts';
import type { BlockFile } from '../block-file.ts';
import type { Mounted } from '../mount.ts';
import type { MountState } from '../state.ts';
import { disconnect, removeDeadMount, topMount } from './connect.ts';
import { fuseNativeOperations, Traffic } from './fuse-native-operations.ts';
import type { MountPlan } from './plan.ts';

const ASK_MS = 100;

/** Resolves when the tree can be used. */
export async function mountByFuseNative(plan: MountPlan, state: MountState): Promise<Mounted> {
  const traffic = new Traffic();
  const mount = await mountFuseNative(plan.at.path, optionsOf(plan), fuseNativeOperations(state, traffic));
  const entry = topMount(plan.at.path);
  return {
    mountpoint: plan.at.path,
    passthrough: false,
    closed: closed(plan.at, entry, traffic).then(() => {
      mount.close();
    }),
    unmount: (lazy = false) => disconnect(plan.at.path, lazy),
    stop: () => {
      traffic.isStopped = true;
    },
    isUsed: (file) => state.passthrough.isUsed(file),
    isPassed: () => false,
    invalidate: async (_file: BlockFile) => undefined,
  };
}

function optionsOf(plan: MountPlan): string {
  const words = [
    ...plan.options.flagNames,
    ...plan.options.data,
    ...(plan.allowOther ? ['allow_other'] : []),
    ...['default_permissions', 'use_ino', 'direct_io', 'big_writes', 'attr_timeout=1', 'entry_timeout=1'],
    `fsname=${plan.source}`,
    `subtype=${plan.subtype}`,
  ];
  return words.map((word) => word.replaceAll(/[\\,]/g, String.raw`\$&`)).join(',');
}

/** Unmounted, no longer used by those who had something open then, and nothing under way. */
async function closed(at: MountPoint, entry: MountEntry | undefined, traffic: Traffic): Promise<void> {
  while (entry !== undefined && !traffic.isStopped && isThere(at, entry)) await sleep(ASK_MS);
  while (traffic.underWay > 0) await sleep(ASK_MS);
  await removeDeadMount(entry);
}

/** A mount that was detached while in use is not in the table any more, but the kernel keeps its device. */
function isThere(at: MountPoint, entry: MountEntry): boolean {
  const mounts = listMounts();
  if (mounts.some(({ target, device }) => target === at.path && device === entry.device)) return true;
  // The number may be that of a newer mount.
  return backsMount(entry.device) && !mounts.some(({ device }) => device === entry.device);
}
