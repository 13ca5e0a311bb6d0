import { flatFile, qemuImage } from './subject.ts';
import type { Subject } from './subject.ts';

/** Every kind of image that the suite (drivers.test.ts) is run for. A driver's tests are a line here and its regressions. */
export const SUBJECTS: readonly Subject[] = [
  {
    name: 'mem',
    driver: 'mem',
    tools: [],
    can: { grow: true, shrink: true, reopen: false, probe: false },
    make: (_folder, content) => Promise.resolve({ options: { driver: 'mem', size: content.length } }),
  },
  flatFile({ name: 'file', driver: 'file', open: (filename) => ({ driver: 'file', filename }) }),
  flatFile({
    name: 'file with cache.direct',
    driver: 'file',
    open: (filename) => ({ driver: 'file', filename, cache: { direct: true } }),
  }),
  flatFile({
    name: 'raw',
    driver: 'raw',
    open: (filename) => ({ driver: 'raw', file: { driver: 'file', filename } }),
  }),
  qemuImage({ name: 'qcow2', format: 'qcow2', check: true, can: { grow: true } }),
  qemuImage({
    name: 'qcow2 version 2',
    format: 'qcow2',
    create: 'compat=0.10',
    check: true,
    can: { grow: true },
  }),
  qemuImage({
    name: 'qcow2 with 512 byte clusters and 1 bit refcounts',
    format: 'qcow2',
    create: 'cluster_size=512,refcount_bits=1',
    check: true,
    can: { grow: true },
  }),
  qemuImage({
    name: 'qcow2 with 2 MiB clusters and 64 bit refcounts',
    format: 'qcow2',
    create: 'cluster_size=2M,refcount_bits=64',
    check: true,
    can: { grow: true },
  }),
  qemuImage({ name: 'qcow2 compressed', format: 'qcow2', args: ['-c'], check: true, can: { grow: true } }),
  qemuImage({
    name: 'qcow2 compressed with zstd',
    format: 'qcow2',
    args: ['-c'],
    create: 'compression_type=zstd',
    check: true,
    can: { grow: true },
  }),
  qemuImage({
    name: 'qcow2 with lazy refcounts',
    format: 'qcow2',
    create: 'lazy_refcounts=on',
    check: true,
    can: { grow: true },
  }),
  qemuImage({
    name: 'qcow2 with preallocated metadata',
    format: 'qcow2',
    create: 'preallocation=metadata',
    check: true,
    can: { grow: true },
  }),
  qemuImage({ name: 'vdi', format: 'vdi', check: true }),
  qemuImage({ name: 'vdi fixed', format: 'vdi', create: 'static=on', check: true }),
  qemuImage({ name: 'qcow', format: 'qcow' }),
  qemuImage({ name: 'qed', format: 'qed', check: true, can: { grow: true } }),
  qemuImage({
    name: 'qed with 4 KiB clusters',
    format: 'qed',
    create: 'cluster_size=4096,table_size=2',
    check: true,
    can: { grow: true },
  }),
  qemuImage({ name: 'parallels', format: 'parallels', check: true }),
  qemuImage({
    name: 'parallels with 64 KiB clusters',
    format: 'parallels',
    create: 'cluster_size=64k',
    check: true,
  }),
];
