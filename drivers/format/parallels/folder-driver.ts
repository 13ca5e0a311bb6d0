import type { Child } from '../../../src/block/child.ts';
import type { MappingDriver, OpenContext } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { ALL_PERMISSIONS, Permission, Role } from '../../../src/block/permissions.ts';
import type { PermissionPair } from '../../../src/block/permissions.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import type { DescribedStorage } from './descriptor.ts';
import { readDescriptor } from './descriptor.ts';
import { checkNewFolder, createFolder, CREATE_OPTIONS } from './folder-create.ts';
import type { Storage } from './folder.ts';
import { ParallelsFolder } from './folder.ts';
import { SECTOR } from './header.ts';

const XML_MAX = 1024 * 1024;
const ROOT = 'Parallels_disk_image';

async function open(context: OpenContext<object>): Promise<MappingDriver> {
  const { subject, common } = context;
  const file = context.child('file');
  if (file.size > XML_MAX)
    refuseImage(subject, `the descriptor has ${file.size} bytes`, `must have at most ${XML_MAX}`);
  const bytes = Buffer.alloc(file.size);
  await file.read(bytes, 0);
  const descriptor = await readDescriptor(bytes.toString(), subject);
  const storages: Storage[] = [];
  for (const [index, described] of descriptor.storages.entries()) {
    storages.push(await openStorage(context, index, described));
  }
  const unit = unitOf(storages);
  const odd = storages.find(({ start }) => start % unit !== 0);
  if (odd !== undefined && !common.readOnly) {
    const wanted = `must be a multiple of the cluster (${unit} bytes) for writing; open it read-only`;
    refuseImage(subject, `a storage begins at byte ${odd.start}`, wanted, 'ENOTSUP');
  }
  return new ParallelsFolder(storages, unit, subject);
}

/** The largest cluster of the images that are written to; they must be multiples of one another to be written. */
function unitOf(storages: readonly Storage[]): number {
  return Math.max(...storages.map(({ images }) => images[0]?.node.limits.allocationUnit ?? 1));
}

async function openStorage(
  context: OpenContext<object>,
  index: number,
  described: DescribedStorage,
): Promise<Storage> {
  const images: Child[] = [];
  const length = (described.end - described.start) * SECTOR;
  for (const [depth, { file, type }] of described.images.entries()) {
    const format = type === 'Plain' ? 'raw' : 'parallels';
    const writable = depth === 0 && !context.common.readOnly;
    const name = `storages.${index}.images.${depth}`;
    const child = await context.openNamed(name, { filename: file, format, roles: Role.data, writable });
    if (child === undefined) refuseImage(context.subject, `option "${name}" is null`, 'must be an image');
    if (child.size < length && depth === 0) {
      refuseImage(
        context.subject,
        `image "${file}" has ${child.size} bytes`,
        `must have ${length}, those of its storage`,
      );
    }
    images.push(child);
  }
  return { start: described.start * SECTOR, end: described.end * SECTOR, images };
}

/** The descriptor and the images below the first are read; the first is written when the disk is. */
function childPermissions(
  name: string,
  _roles: number,
  parent: PermissionPair,
  readOnly: boolean,
): PermissionPair {
  const isTop = /^storages\.\d+\.images\.0$/.test(name);
  const writes = isTop && !readOnly && (parent.used & (Permission.write | Permission.writeUnchanged)) !== 0;
  return {
    used: Permission.consistentRead | (writes ? Permission.write : 0),
    shared: ALL_PERMISSIONS & ~(Permission.write | Permission.resize),
  };
}

function probe(head: Buffer): number {
  const text = head.toString('latin1', 0, 1024);
  return /^(\uFEFF|ï»¿)?\s*(<\?xml[^>]*>\s*)?(<!--[^]*?-->\s*)*<Parallels_disk_image[\s>]/.test(text)
    ? 95
    : 0;
}

export const parallelsFolderDriver = defineDriver({
  name: 'parallels-hdd',
  kind: 'format',
  summary: `Parallels .hdd folder by its descriptor (${ROOT}), with snapshots`,
  options: {},
  children: {
    file: {
      roles: Role.metadata | Role.primary,
      required: true,
      summary: 'DiskDescriptor.xml of the folder',
    },
  },
  probe,
  open,
  childPermissions,
  createOptions: CREATE_OPTIONS,
  checkCreate: checkNewFolder,
  create: createFolder,
});
