import { cowd, descriptor, qemuAgrees, seSparse, writeDescriptor } from '../format/vmdk-fixtures.ts';
import { rawFile } from '../format/small-image.ts';
import { qemuImage } from './subject.ts';
import type { QemuImage, Subject } from './subject.ts';

const SECTOR = 512;

const vmdk = (kind: Pick<QemuImage, 'name' | 'create' | 'can'>): Subject =>
  qemuImage({ format: 'vmdk', check: true, ...kind });

interface Built {
  readonly name: string;
  readonly createType: string;
  readonly extent: string;
  readonly can: Subject['can'];
  readonly build: (content: Buffer) => Buffer;
}

/** One extent behind a descriptor, built from the specification's tables. */
function built({ name, createType, extent, can, build }: Built): Subject {
  return {
    name,
    driver: 'vmdk',
    tools: ['qemu-img'],
    can,
    async make(folder, content) {
      await rawFile(folder, 'disk-extent.vmdk', build(content));
      const line = `RW ${content.length / SECTOR} ${extent} "disk-extent.vmdk"`;
      const path = await writeDescriptor(folder, 'disk.vmdk', descriptor(createType, [line]));
      return { path, options: { driver: 'vmdk', file: { driver: 'file', filename: path } } };
    },
    judge: ({ path = '' }, content) => qemuAgrees(path, content),
  };
}

/** A snapshot's delta: every seventh sector is its own, the rest shows its parent. */
const SNAPSHOT: Subject = {
  name: 'vmdk snapshot',
  driver: 'vmdk',
  tools: ['qemu-img'],
  can: {},
  async make(folder, content) {
    const size = content.length;
    const below = Buffer.from(content);
    const above = Buffer.alloc(size);
    for (let at = 0; at < size; at += 7 * SECTOR) {
      const end = Math.min(size, at + SECTOR);
      content.copy(above, at, at, end);
      // A grain that is all zeroes is not stored, so the parent's has to show.
      if (above.subarray(at, end).some((byte) => byte !== 0)) below.fill(0x55, at, end);
    }
    await rawFile(folder, 'disk-flat.vmdk', below);
    const flat = `RW ${size / SECTOR} VMFS "disk-flat.vmdk"`;
    await writeDescriptor(folder, 'disk.vmdk', descriptor('vmfs', [flat]));
    await rawFile(folder, 'disk-000001-delta.vmdk', cowd(above, { grainSectors: 1 }));
    const delta = `RW ${size / SECTOR} VMFSSPARSE "disk-000001-delta.vmdk"`;
    const parent = ['parentCID=12345678', 'parentFileNameHint="disk.vmdk"'];
    const text = descriptor('vmfsSparse', [delta], parent).replace('CID=12345678', 'CID=87654321');
    const path = await writeDescriptor(folder, 'disk-000001.vmdk', text);
    return { path, options: { driver: 'vmdk', file: { driver: 'file', filename: path } } };
  },
  judge: ({ path = '' }, content) => qemuAgrees(path, content),
};

/** Shapes that qemu-img makes, and those of ESX, which it only reads. */
export const VMDK: readonly Subject[] = [
  vmdk({ name: 'vmdk', can: { grow: true } }),
  vmdk({
    name: 'vmdk with zeroed grains',
    create: 'subformat=monolithicSparse,zeroed_grain=on',
    can: { grow: true },
  }),
  vmdk({
    name: 'vmdk monolithicFlat',
    create: 'subformat=monolithicFlat',
    can: { grow: true, shrink: true },
  }),
  vmdk({
    name: 'vmdk twoGbMaxExtentSparse',
    create: 'subformat=twoGbMaxExtentSparse',
    can: { grow: true },
  }),
  vmdk({
    name: 'vmdk twoGbMaxExtentFlat',
    create: 'subformat=twoGbMaxExtentFlat',
    can: { grow: true, shrink: true },
  }),
  vmdk({
    name: 'vmdk streamOptimized',
    create: 'subformat=streamOptimized',
    can: { write: false },
  }),
  built({
    name: 'vmdk vmfs',
    createType: 'vmfs',
    extent: 'VMFS',
    can: { grow: true, shrink: true },
    build: (content) => content,
  }),
  built({
    name: 'vmdk vmfsSparse',
    createType: 'vmfsSparse',
    extent: 'VMFSSPARSE',
    can: {},
    build: (content) => cowd(content, { grainSectors: 8 }),
  }),
  built({
    name: 'vmdk seSparse',
    createType: 'seSparse',
    extent: 'SESPARSE',
    can: { write: false },
    build: (content) => seSparse(content),
  }),
  SNAPSHOT,
];
