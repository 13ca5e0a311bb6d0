import { OVERLAYS } from './overlays.ts';
import { PARALLELS_FOLDER, PARALLELS_VERSION_1 } from './parallels.ts';
import { qemuImage } from './subject.ts';
import type { Subject } from './subject.ts';

/** Disks of other virtual machines, and older ones of QEMU. */
export const MACHINES: readonly Subject[] = [
  qemuImage({ name: 'vdi', format: 'vdi', check: true, can: { grow: true, shrink: true } }),
  qemuImage({ name: 'vdi fixed', format: 'vdi', create: 'static=on', check: true, can: { grow: true } }),
  qemuImage({ name: 'vpc', format: 'vpc', create: 'force_size=on', can: { grow: true, shrink: true } }),
  qemuImage({
    name: 'vpc fixed',
    format: 'vpc',
    create: 'subformat=fixed,force_size=on',
    can: { grow: true, shrink: true },
  }),
  qemuImage({ name: 'vhdx', format: 'vhdx', check: true, can: { grow: true, shrink: true } }),
  qemuImage({
    name: 'vhdx fixed',
    format: 'vhdx',
    create: 'subformat=fixed,block_size=1M',
    check: true,
    can: { grow: true },
  }),
  qemuImage({ name: 'qcow', format: 'qcow', can: { grow: true } }),
  qemuImage({ name: 'qed', format: 'qed', check: true, can: { grow: true } }),
  qemuImage({
    name: 'qed with 4 KiB clusters',
    format: 'qed',
    create: 'cluster_size=4096,table_size=2',
    check: true,
    can: { grow: true },
  }),
  qemuImage({ name: 'parallels', format: 'parallels', check: true, can: { grow: true } }),
  qemuImage({
    name: 'parallels with 64 KiB clusters',
    format: 'parallels',
    create: 'cluster_size=64k',
    check: true,
    can: { grow: true },
  }),
  ...OVERLAYS,
  PARALLELS_VERSION_1,
  PARALLELS_FOLDER,
];
