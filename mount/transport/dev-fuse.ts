import { BlockError } from '../../src/block/errors.ts';
import type { FuseDevice } from '../../src/sys/fuse-device.ts';
import { mountFileSystem, openFuseDevice } from '../../src/sys/fuse-device.ts';
import { FileType } from '../protocol/constants.ts';
import type { MountPlan } from './plan.ts';

/** Mounts with mount(2): for those who may (CAP_SYS_ADMIN). No other program is needed. */
export async function mountDirectly(plan: MountPlan): Promise<FuseDevice> {
  const device = openFuseDevice();
  try {
    await mountFileSystem({
      source: plan.source,
      target: plan.at.path,
      type: `fuse.${plan.subtype}`,
      flags: plan.options.flags,
      data: mountData(plan, device.fd),
    });
    return device;
  } catch (error) {
    device.close();
    throw error instanceof BlockError
      ? new BlockError(error.code, error.message, { path: plan.at.path }, error)
      : error;
  }
}

/** The root's file type is part of the mount: a directory, or a regular file that is the disk. */
function mountData(plan: MountPlan, fd: number): string {
  const rootMode = plan.at.kind === 'directory' ? FileType.directory : FileType.regular;
  return [
    `fd=${fd}`,
    `rootmode=${rootMode.toString(8)}`,
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    ...(plan.allowOther ? ['allow_other'] : []),
    ...plan.options.data,
  ].join(',');
}
