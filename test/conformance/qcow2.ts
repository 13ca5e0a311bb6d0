import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../helpers/run.ts';
import { judgeWithQemu, qemuImage } from './subject.ts';
import type { QemuImage, Subject } from './subject.ts';

const resizes = { grow: true, shrink: true };

const qcow2 = (kind: Pick<QemuImage, 'name' | 'create' | 'args'>): Subject =>
  qemuImage({ format: 'qcow2', check: true, can: resizes, ...kind });

/** Guest bytes in a file of their own, beside the image. */
function withDataFile(name: string, shape: string): Subject {
  return {
    name,
    driver: 'qcow2',
    tools: ['qemu-img'],
    can: resizes,
    async make(folder, content) {
      const path = join(folder, 'disk.qcow2');
      const flat = join(folder, 'content.raw');
      await writeFile(flat, content);
      const create = `data_file=${join(folder, 'disk.data')}${shape}`;
      await run('qemu-img', ['convert', '-q', '-f', 'raw', '-O', 'qcow2', '-o', create, flat, path]);
      return { path, options: { driver: 'qcow2', file: { driver: 'file', filename: path } } };
    },
    judge: (image, content) => judgeWithQemu(image, content, { format: 'qcow2', check: true }),
  };
}

/** Kinds of qcow2 images; encrypted ones are in encrypted.ts. */
export const QCOW2: readonly Subject[] = [
  qcow2({ name: 'qcow2' }),
  qcow2({
    name: 'qcow2 version 2',
    create: 'compat=0.10',
  }),
  qcow2({
    name: 'qcow2 with 512 byte clusters and 1 bit refcounts',
    create: 'cluster_size=512,refcount_bits=1',
  }),
  qcow2({
    name: 'qcow2 with 2 MiB clusters and 64 bit refcounts',
    create: 'cluster_size=2M,refcount_bits=64',
  }),
  qcow2({
    name: 'qcow2 compressed',
    args: ['-c'],
  }),
  qcow2({
    name: 'qcow2 compressed with zstd',
    args: ['-c'],
    create: 'compression_type=zstd',
  }),
  qcow2({
    name: 'qcow2 with lazy refcounts',
    create: 'lazy_refcounts=on',
  }),
  qcow2({
    name: 'qcow2 with preallocated metadata',
    create: 'preallocation=metadata',
  }),
  qcow2({ name: 'qcow2 with subclusters', create: 'extended_l2=on,cluster_size=128k' }),
  qcow2({ name: 'qcow2 compressed with subclusters', create: 'extended_l2=on', args: ['-c'] }),
  withDataFile('qcow2 with a data file', ''),
  withDataFile('qcow2 with a raw data file', ',data_file_raw=on'),
];
