import { DMG } from './dmg.ts';
import { convertedImage, SPLIT_DISK } from './other-tools.ts';
import type { Subject } from './subject.ts';

/** Disks that were packed or cut for keeping, and those of Bochs. */
export const PACKED: readonly Subject[] = [
  ...DMG,
  SPLIT_DISK,
  convertedImage({
    name: 'bochs growing',
    driver: 'bochs',
    tool: 'bximage',
    args: (flat, path) => ['-q', '-func=convert', '-imgmode=growing', flat, path],
  }),
  convertedImage({
    name: 'bochs sparse',
    driver: 'bochs',
    tool: 'bximage',
    args: (flat, path) => ['-q', '-func=convert', '-imgmode=sparse', flat, path],
  }),
  convertedImage({
    name: 'cloop',
    driver: 'cloop',
    tool: 'create_compressed_fs',
    args: (flat, path) => ['-q', '-B', '65536', flat, path],
  }),
  convertedImage({
    name: 'gzip',
    driver: 'gzip',
    tool: '7zz',
    args: (flat, path) => ['a', '-bso0', '-tgzip', path, flat],
  }),
  convertedImage({
    name: 'xz',
    driver: 'xz',
    tool: '7zz',
    args: (flat, path) => ['a', '-bso0', '-txz', path, flat],
  }),
  convertedImage({
    name: 'zstd',
    driver: 'zstd',
    tool: 'zstd',
    args: (flat, path) => ['-q', flat, '-o', path],
  }),
];
