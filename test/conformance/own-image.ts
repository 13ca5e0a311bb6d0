import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DRIVERS } from '../../drivers/index.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage } from '../../src/cli/create-image.ts';
import { siblings } from '../../src/sys/folders.ts';
import { hold, readAll, release } from '../format/small-image.ts';
import type { Image, Subject } from './subject.ts';

const SECTOR = 512;
/** By how much the parent of an overlay is longer: what it has there must never show through. */
const LONGER = 1024 * 1024;

interface OwnImage extends Partial<Pick<Subject, 'can' | 'size' | 'judge'>> {
  readonly name: string;
  readonly format: string;
  readonly tools?: readonly string[];
  /** Options to create with. */
  readonly create?: Readonly<Record<string, string>>;
  /** Name in the folder of the test. */
  readonly file?: string;
  /** Half of the content is in a parent of the same format. */
  readonly hasParent?: boolean;
}

/** A kind of image that nobody else makes, created and filled here. */
export function ownImage(kind: OwnImage): Subject {
  const { name, format, file = `disk.${format}`, tools = [], can = { grow: true } } = kind;
  const open = (path: string): Record<string, unknown> => ({
    driver: format,
    file: { driver: 'file', filename: path },
  });
  return {
    name,
    driver: format,
    tools,
    can,
    ...(kind.size === undefined ? {} : { size: kind.size }),
    async make(folder, content) {
      const path = join(folder, file);
      await mkdir(dirname(path), { recursive: true });
      const graph = new Graph({ drivers: DRIVERS, siblings });
      try {
        await fill(graph, { ...kind, path, options: open(path) }, content);
      } finally {
        await graph.close();
      }
      return { path, options: open(path) };
    },
    judge: kind.judge ?? judgeOurselves,
  };
}

async function fill(
  graph: Graph,
  image: OwnImage & { path: string; options: Record<string, unknown> },
  content: Buffer,
): Promise<void> {
  const { format, path, options, create = {}, hasParent = false } = image;
  const size = content.length;
  if (!hasParent) {
    await createImage(graph, { filename: path, format, size, options: create });
    return write(graph, options, content, () => true);
  }
  const parent = `${path}.parent.${format}`;
  const below = Buffer.concat([content, Buffer.alloc(LONGER, 0x77)]);
  for (let at = 0; at < size; at += SECTOR)
    if (isAbove(at)) below.fill(0x55, at, Math.min(size, at + SECTOR));
  await createImage(graph, { filename: parent, format, size: below.length, options: {} });
  await write(graph, { driver: format, file: { driver: 'file', filename: parent } }, below, () => true);
  await createImage(graph, {
    filename: path,
    format,
    size,
    options: { ...create, backing_file: parent, backing_fmt: format },
  });
  await write(graph, options, content, isAbove);
}

/** Single sectors and long runs belong to the overlay. */
const isAbove = (at: number): boolean => (at / SECTOR) % 61 === 1 || Math.floor(at / 700_000) % 2 === 1;

async function write(
  graph: Graph,
  options: Record<string, unknown>,
  content: Buffer,
  isWanted: (at: number) => boolean,
): Promise<void> {
  const child = await hold(graph, options);
  for (let at = 0; at < content.length;) {
    let end = at;
    while (end < content.length && isWanted(end)) end += SECTOR;
    if (end > at) await child.write(content.subarray(at, end), at);
    at = Math.max(end, at + SECTOR);
  }
  await release(graph, child);
}

/** Read in a graph of its own, and checked where the format has a check. */
async function judgeOurselves(image: Image, content: Buffer): Promise<void> {
  const graph = new Graph({ drivers: DRIVERS, siblings });
  try {
    const child = await hold(graph, { ...image.options, 'read-only': true });
    if (!content.equals(await readAll(child))) throw new Error('The image does not hold what was written');
    const found = await child.node.driver.check?.(child.node.impl, { repair: 'none' });
    if (found !== undefined && found.messages.length > 0) throw new Error(found.messages.join('; '));
  } finally {
    await graph.close();
  }
}
