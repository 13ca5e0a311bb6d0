import { ownImage } from './own-image.ts';
import { judgeWithQemu } from './subject.ts';
import type { Subject } from './subject.ts';

const MIB = 1024 * 1024;
const shrinks = { grow: true, shrink: true };

/** Images over a parent of the same format, and a sector size that qemu-img does not make. */
export const OVERLAYS: readonly Subject[] = [
  ownImage({ name: 'vdi differencing', format: 'vdi', hasParent: true, can: shrinks }),
  ownImage({ name: 'vpc differencing', format: 'vpc', hasParent: true, can: shrinks }),
  ownImage({ name: 'vhdx differencing', format: 'vhdx', hasParent: true, can: shrinks }),
  ownImage({
    name: 'vhdx differencing with sectors of 4 KiB',
    format: 'vhdx',
    create: { logical_sector_size: '4096' },
    size: 3 * MIB + 4096 * 3,
    hasParent: true,
  }),
  ownImage({
    name: 'qcow over a backing file',
    format: 'qcow',
    tools: ['qemu-img'],
    hasParent: true,
    judge: (image, content) => judgeWithQemu(image, content, { format: 'qcow', check: false }),
  }),
  ownImage({
    name: 'qed over a backing file',
    format: 'qed',
    tools: ['qemu-img'],
    hasParent: true,
    judge: (image, content) => judgeWithQemu(image, content, { format: 'qed', check: true }),
  }),
];
