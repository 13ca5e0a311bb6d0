/**
 * Loop devices over mounted disks. Set up from the image upwards, taken down the other way round; a step that fails undoes
 * those before it.
 *
 *     image -> private mount (server) -> loop device -> file system
 */
import path from 'node:path';
import { BlockError } from '../block/errors.ts';
import { attachments, enterAttachment, hasDevice, makePrivateFolder } from '../sys/attachments.ts';
import { removeAttachment, removePrivateFolder } from '../sys/attachments.ts';
import type { Attachment } from '../sys/attachments.ts';
import { fileKind } from '../sys/file.ts';
import { canonicalMountpoint, mountAt } from '../sys/mount-table.ts';
import { attachLoop, detachLoop, mountFileSystem, unmountFileSystem } from '../sys/loop-device.ts';
import type { ImageValues } from './image-arguments.ts';
import { mountRequest } from './mount.ts';
import { launchServer } from './server/launch.ts';
import { unmount } from './server/unmount.ts';

export interface AttachOptions extends ImageValues {
  readonly partition: number | undefined;
  readonly mount: string | undefined;
  readonly 'read-only': boolean;
  readonly 'sector-size': number;
}

export async function attachImage(image: string, options: AttachOptions): Promise<Attachment> {
  if (process.getuid?.() !== 0) {
    const text =
      'loop devices are for root; as another user, use "blockfuse mount" and the files of its partitions';
    throw new BlockError('EPERM', `Cannot attach "${image}": ${text}`);
  }
  const undo: (() => Promise<void>)[] = [];
  try {
    return await setUp(image, options, undo);
  } catch (error) {
    for (const step of undo.reverse()) await step().catch(() => undefined);
    throw error;
  }
}

async function setUp(
  image: string,
  options: AttachOptions,
  undo: (() => Promise<void>)[],
): Promise<Attachment> {
  const mountpoint = makePrivateFolder();
  undo.push(async () => {
    removePrivateFolder(mountpoint);
  });
  const { mounts } = await launchServer(mountRequest(image, mountpoint, { ...options }));
  const [mount] = mounts;
  if (mount === undefined) throw new BlockError('EIO', `Cannot attach "${image}": it was not mounted`);
  undo.push(() => unmount(mountpoint, true));
  const file = diskFile(mount.file, options.partition, image);
  const readOnly = mount.readOnly;
  const device = await attachLoop(file, { readOnly, sectorSize: options['sector-size'] });
  undo.push(() => detachLoop(device));
  const folder = options.mount === undefined ? undefined : path.resolve(options.mount);
  if (folder !== undefined) {
    await mountFileSystem(device, folder, readOnly);
    undo.push(() => unmountFileSystem(folder));
  }
  const attachment: Attachment = { device, file, image: mount.image, mountpoint, folder };
  enterAttachment(attachment);
  return attachment;
}

function diskFile(disk: string, partition: number | undefined, image: string): string {
  if (partition === undefined) return disk;
  const file = `${disk.replace(/\.raw$/, '')}.partitions/${partition}.raw`;
  if (fileKind(file) === 'regular') return file;
  throw new BlockError(
    'ENOENT',
    `Cannot attach partition ${partition} of "${image}": its table has none of that number`,
  );
}

/** Resolves when the image is final. What a detach that failed half-way has done already is left out. */
export async function detachImage(what: string): Promise<void> {
  const wanted = path.resolve(what);
  const known = attachments().filter(({ device, image, folder }) => [device, image, folder].includes(wanted));
  const live = known.filter(hasDevice);
  if (known.length === 0) {
    throw new BlockError(
      'ENOENT',
      `Cannot detach "${what}": it is not attached; "blockfuse list" shows what is`,
    );
  }
  if (live.length > 1) {
    const devices = live.map(({ device }) => device).join(', ');
    throw new BlockError('EINVAL', `Cannot detach "${what}": it is attached as ${devices}, name one of them`);
  }
  for (const attachment of live.length > 0 ? live : known) await takeDown(attachment);
}

async function takeDown(attachment: Attachment): Promise<void> {
  const { device, folder, mountpoint } = attachment;
  if (folder !== undefined && isMounted(device, folder)) await unmountFileSystem(folder);
  if (hasDevice(attachment)) await detachLoop(device);
  await unmount(mountpoint, false);
  removeAttachment(attachment);
  removePrivateFolder(mountpoint);
}

const isMounted = (device: string, folder: string): boolean =>
  mountAt(canonicalMountpoint(folder))?.source === device;
