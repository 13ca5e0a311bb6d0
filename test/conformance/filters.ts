import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../helpers/run.ts';
import { flatFile, judgeWithQemu, qemuImage } from './subject.ts';
import type { Image, Subject } from './subject.ts';

const file = (filename: string): Record<string, unknown> => ({ driver: 'file', filename });
const raw = (filename: string): Record<string, unknown> => ({ driver: 'raw', file: file(filename) });

/** Written also when the disk itself is only read. */
const TARGET = { driver: 'mem', size: '4M', 'read-only': false };

/** A filter over a flat file: what goes through it is on the file. */
const over = (driver: string, options: Record<string, unknown> = {}, child = 'file'): Subject =>
  flatFile({ name: driver, driver, open: (path) => ({ driver, ...options, [child]: raw(path) }) });

/** Several flat files that have to stay alike. */
function copies(
  driver: string,
  names: readonly string[],
  open: (paths: readonly string[]) => Record<string, unknown>,
): Subject {
  const flat = flatFile({ name: driver, driver, open: () => ({}) });
  const beside = (path: string): string[] => [path, ...names.map((name) => `${path}.${name}`)];
  return {
    ...flat,
    can: { grow: true, shrink: true, probe: false },
    async make(folder, content) {
      const { path = '' } = await flat.make(folder, content);
      const [, ...others] = beside(path);
      for (const other of others) await copyFile(path, other);
      return { path, options: { driver, ...open(beside(path)) } };
    },
    async judge({ path = '' }, content) {
      for (const one of beside(path)) {
        if (!content.equals(await readFile(one))) throw new Error(`"${one}" is not what was written`);
      }
    },
  };
}

const THROTTLE: Subject = {
  ...over('throttle'),
  async make(folder, content) {
    const image = await over('throttle', { 'throttle-group': 'g' }).make(folder, content);
    return {
      ...image,
      prepare: (graph) => {
        graph.addObject('throttle-group', 'g', { 'x-bps-total': '10G', 'x-iops-total': 10_000_000 });
      },
    };
  },
};

/** A filter over a qcow2 image, over a backing file with `backing`. */
function overQcow2(driver: string, hasBacking: boolean): Subject {
  const judge = (image: Image, content: Buffer): Promise<void> =>
    judgeWithQemu(image, content, { format: 'qcow2', check: true });
  return {
    name: `${driver} over qcow2`,
    driver,
    tools: ['qemu-img'],
    can: { grow: true, shrink: true, probe: false },
    judge,
    async make(folder, content) {
      if (!hasBacking) {
        const image = await qemuImage({ name: 'below', format: 'qcow2' }).make(folder, content);
        return { ...image, options: { driver, file: image.options } };
      }
      const base = join(folder, 'base.raw');
      await writeFile(base, content);
      const path = join(folder, 'disk.qcow2');
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', path]);
      return { path, options: { driver, file: { driver: 'qcow2', file: file(path) } } };
    },
  };
}

/** The view of a disk that nobody writes. */
const SNAPSHOT_ACCESS: Subject = {
  ...flatFile({
    name: 'snapshot-access',
    driver: 'snapshot-access',
    open: (path) => ({
      driver: 'snapshot-access',
      file: { driver: 'copy-before-write', file: raw(path), target: TARGET },
    }),
  }),
  can: { write: false, probe: false },
};

export const FILTERS: readonly Subject[] = [
  THROTTLE,
  SNAPSHOT_ACCESS,
  over('log'),
  over('delay', { 'write-ms': 1 }),
  over('error', { length: 0 }),
  over('preallocate', { 'prealloc-size': '1M' }),
  over('blkdebug', {}, 'image'),
  over('copy-before-write', { target: TARGET }),
  overQcow2('copy-on-read', true),
  overQcow2('compress', false),
  copies('quorum', ['second', 'third'], (paths) => ({ 'vote-threshold': 2, children: paths.map(raw) })),
  copies('blkverify', ['right'], ([path = '', right = '']) => ({ test: raw(path), raw: raw(right) })),
];
