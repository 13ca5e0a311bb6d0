import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../helpers/run.ts';
import type { Subject } from './subject.ts';

const MIB = 1024 * 1024;

/** An image that is only read, made from a flat file by some tool. */
export function convertedImage(kind: {
  name: string;
  driver: string;
  tool: string;
  size?: number;
  args: (flat: string, path: string) => string[];
}): Subject {
  const { driver } = kind;
  return {
    name: kind.name,
    driver,
    tools: [kind.tool],
    can: { write: false },
    size: kind.size ?? 4 * MIB,
    async make(folder, content) {
      const path = join(folder, `disk.${driver}`);
      const flat = join(folder, 'content.raw');
      await writeFile(flat, content);
      await run(kind.tool, kind.args(flat, path));
      return { path, options: { driver, file: { driver: 'file', filename: path } } };
    },
  };
}

const PART = MIB + 1536;

/** A flat disk in parts of an odd size. */
export const SPLIT_DISK: Subject = {
  name: 'split',
  driver: 'split',
  tools: [],
  can: {},
  async make(folder, content) {
    const path = join(folder, 'disk.001');
    for (const [index, part] of partsOf(content).entries()) await writeFile(partPath(path, index), part);
    return { path, options: { driver: 'split', file: { driver: 'file', filename: path } } };
  },
  async judge(image, content) {
    for (const [index, part] of partsOf(content).entries()) {
      const found = await readFile(partPath(image.path ?? '', index));
      if (!part.equals(found)) throw new Error(`Part ${index + 1} is not what was written`);
    }
  },
};

function partsOf(content: Buffer): Buffer[] {
  const count = Math.ceil(content.length / PART);
  return Array.from({ length: count }, (_, index) => content.subarray(index * PART, (index + 1) * PART));
}

const partPath = (first: string, index: number): string => first.replace(/1$/, String(index + 1));
