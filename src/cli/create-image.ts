/** Makes a new image file of any format that can be written. */
import path from 'node:path';
import * as v from 'valibot';
import type { Child } from '../block/child.ts';
import type { CreateContext, Driver, ImageInfo, SequentialWriter } from '../block/driver.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import { expandDotted, firstName, takeDeclared } from '../block/options.ts';
import type { OptionsTree } from '../block/options.ts';
import { size } from '../block/schema.ts';
import { createEmptyFile, fileKind } from '../sys/file.ts';
import { alignUp } from '../util/sizes.ts';
import { UsageError } from './command.ts';
import { NewFiles } from './new-files.ts';
import { watchProgress } from './progress.ts';
import { doorTo } from './with-graph.ts';

export interface NewImage {
  readonly filename: string;
  readonly format: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly options: OptionsTree;
}

const SECTOR = 512;

type Context = CreateContext<Readonly<Record<string, unknown>>>;

/**
 * Creates the file (replacing one of that name) and the format's structures in it. Everything is closed and flushed.
 * @param files noted in there, for whoever discards them; when left out they are discarded here if it fails
 */
export async function createImage(graph: Graph, image: NewImage, files?: NewFiles): Promise<void> {
  const own = files ?? new NewFiles();
  const create = async (driver: Driver, context: Context): Promise<void> => {
    await driver.create?.(context);
  };
  try {
    await withNewFiles(graph, image, own, create);
  } catch (error) {
    if (files === undefined) own.discard();
    throw error;
  }
}

/** The same, telling how much of what may be preallocated is written. */
export async function createShown(graph: Graph, image: NewImage, files: NewFiles): Promise<void> {
  const { preallocation = 'off' } = expandDotted(image.options);
  if (preallocation === 'off') return createImage(graph, image, files);
  const look = (): { done: number; total: number } => ({
    done: files.children.reduce((sum, { node }) => sum + node.counters.writtenBytes, 0),
    total: image.size,
  });
  return watchProgress('create', look, () => createImage(graph, image, files));
}

/**
 * Creates an image that is written front to back, with the content that `fill` gives it. False, with nothing written:
 * it is one that is created empty and written like any other.
 */
export async function createSequential(
  graph: Graph,
  image: NewImage,
  files: NewFiles,
  fill: (writer: SequentialWriter) => Promise<void>,
): Promise<boolean> {
  if (creator(graph, image.format).createSequential === undefined) return false;
  return withNewFiles(graph, image, files, async (driver, context) => {
    const writer = await driver.createSequential?.(context);
    if (writer !== undefined) await fill(writer);
    return writer !== undefined;
  });
}

async function withNewFiles<Result>(
  graph: Graph,
  image: NewImage,
  files: NewFiles,
  use: (driver: Driver, context: Context) => Promise<Result>,
): Promise<Result> {
  const driver = creator(graph, image.format);
  const beside = (filename: string): string =>
    path.resolve(path.dirname(path.resolve(image.filename)), filename);
  const wanted = {
    options: createOptions(driver, image),
    size: image.size,
    subject: image.filename,
    secret: (id: string | undefined) => graph.secret(id, image.filename, true),
    describe: (filename: string, format: string | undefined) =>
      describeImage(graph, beside(filename), format),
  };
  await driver.checkCreate?.(wanted);
  const opened: Child[] = [];
  const openNew = async (filename: string): Promise<Child> => {
    const child = await openNewFile(graph, filename, files);
    opened.push(child);
    return child;
  };
  try {
    const file = await openNew(image.filename);
    const createFile = (filename: string): Promise<Child> => openNew(beside(filename));
    const result = await use(driver, { ...wanted, file, createFile });
    for (const child of opened) await child.flush();
    return result;
  } finally {
    for (const child of opened) {
      const { name } = child.node;
      await graph.detach(child);
      await graph.remove(name);
    }
  }
}

async function openNewFile(graph: Graph, filename: string, files: NewFiles): Promise<Child> {
  const kind = fileKind(filename);
  if (kind === 'missing') {
    createEmptyFile(filename);
    files.note(filename);
  }
  const driver = graph.setup.protocolFor?.(filename) ?? 'file';
  const child = doorTo(graph, await graph.open({ driver, filename, discard: 'unmap' }), true);
  files.children.push(child);
  if (kind === 'regular') {
    // Not before it is locked: it may be the source, or in use by somebody else.
    await child.resize(0, true);
    files.note(filename);
  }
  return child;
}

function createOptions(driver: Driver, image: NewImage): Readonly<Record<string, unknown>> {
  const tree = structuredClone(expandDotted(image.options));
  const options = takeDeclared(tree, driver.createOptions ?? {}, `new ${image.format} image`);
  const unknown = firstName(tree);
  if (unknown === undefined) return options;
  const known = Object.keys(driver.createOptions ?? {}).join(', ') || 'none';
  const text = `format "${image.format}" has no option "${unknown}" to create with, only ${known}`;
  throw new BlockError('EINVAL', `Cannot create "${image.filename}": ${text}`);
}

async function describeImage(graph: Graph, filename: string, format: string | undefined): Promise<ImageInfo> {
  const node = await graph.openImage(filename, format, { 'read-only': true });
  try {
    return (await node.impl.info?.()) ?? {};
  } finally {
    await graph.remove(node.name);
  }
}

function creator(graph: Graph, format: string): Driver {
  const driver = graph.drivers.get(format);
  if (driver?.create !== undefined) return driver;
  const known = [...graph.drivers.values()]
    .filter((each) => each.create !== undefined)
    .map((each) => each.name);
  const what = driver === undefined ? 'there is no such format' : 'it is only read';
  const text = `Cannot create an image of format "${format}": ${what}, created can be ${known.join(', ')}`;
  throw new BlockError('ENOTSUP', text);
}

/** Bytes of the new disk: formats count in sectors, and none of its content may be cut off. */
export function sizeInFormat(format: string, bytes: number): number {
  return format === 'raw' ? bytes : alignUp(bytes, SECTOR);
}

/** A size as the user gives it, with or without a suffix. */
export function sizeOption(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const result = v.safeParse(size('size'), given);
  if (result.success) return result.output;
  throw new UsageError(`the size is "${given}", must be bytes or a number with k, M, G or T`);
}
