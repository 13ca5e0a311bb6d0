import { FuseDevice } from '../src/sys/fuse-device.ts';
import { helperMount } from '../src/sys/fuse-helper.ts';
import type { MountPlan } from './transport/plan.ts';

/** Mounts through fusermount3: for ordinary users. It opens the device and finds out what the mount point is. */
export async function mountThroughHelper(plan: MountPlan): Promise<FuseDevice> {
  const options = [
    ...plan.options.flagNames,
    `fsname=${escapeComma(plan.source)}`,
    `subtype=${escapeComma(plan.subtype)}`,
    'default_permissions',
    ...(plan.allowOther ? ['allow_other'] : []),
    ...plan.options.data,
  ].join(',');
  return new FuseDevice(await helperMount(plan.at.path, options));
}

/** In a value a comma would end it. */
const escapeComma = (text: string): string => text.replaceAll(/[\\,]/g, (found) => `\\${found}`);
