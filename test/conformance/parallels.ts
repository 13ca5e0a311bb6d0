import { readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { versionOne } from '../format/parallels-images.ts';
import { ownImage } from './own-image.ts';
import { judgeWithQemu } from './subject.ts';
import type { Subject } from './subject.ts';

const CLUSTER_SECTORS = 63;

export const PARALLELS_VERSION_1: Subject = {
  name: 'parallels version 1',
  driver: 'parallels',
  tools: ['qemu-img'],
  can: { grow: true },
  async make(folder, content) {
    const path = join(folder, 'disk.hds');
    await writeFile(path, versionOne(content, CLUSTER_SECTORS));
    return { path, options: { driver: 'parallels', file: { driver: 'file', filename: path } } };
  },
  judge: (image, content) => judgeWithQemu(image, content, { format: 'parallels', check: false }),
};

/** qemu-img judges the image that the descriptor names. */
export const PARALLELS_FOLDER: Subject = ownImage({
  name: 'parallels-hdd',
  format: 'parallels-hdd',
  file: 'disk.hdd/DiskDescriptor.xml',
  tools: ['qemu-img'],
  create: { cluster_size: '65536' },
  can: {},
  async judge({ options, path = '' }, content) {
    const [image = ''] = (await readdir(dirname(path))).filter((name) => name.endsWith('.hds'));
    const inside = { options, path: join(dirname(path), image) };
    await judgeWithQemu(inside, content, { format: 'parallels', check: true });
  },
});
