/** Makes a new image file of any format that can be written. */
import path from 'node:path';
import type { Child } from '../block/child.ts';
import type { CreateContext, Driver, ImageInfo, SequentialWriter } from '../block/driver.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import { expandDotted, takeDeclared } from '../block/options.ts';
import type { OptionsTree } from '../block/options.ts';
import { createFile, fileKind } from '../sys/file.ts';
import { watchProgress } from './progress.ts';
import { doorTo } from './with-graph.ts';

export interface NewImage {
  readonly filename: string;
  readonly format: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly options: OptionsTree;
}

type Context = CreateContext<Readonly<Record<string, unknown>>>;

/**
 * Creates the file (replacing one of that name) and the format's structures in it. Everything is closed and flushed.
 * @param opened told of each file that is made
 */
export async function createImage(
  graph: Graph,
  image: NewImage,
  opened?: (file: Child) => void,
): Promise<void> {
  const create = async (driver: Driver, context: Context): Promise<void> => {
    await driver.create?.(context);
  };
  await withNewFiles(graph, image, create, opened);
}

/** The same, telling how much of what may be preallocated is written. */
export async function createShown(graph: Graph, image: NewImage): Promise<void> {
  const { preallocation = 'off' } = expandDotted(image.options);
  if (preallocation === 'off') return createImage(graph, image);
  const files: Child[] = [];
  const look = (): { done: number; total: number } => ({
    done: files.reduce((sum, { node }) => sum + node.counters.writtenBytes, 0),
    total: image.size,
  });
  return watchProgress('create', look, () =>
    createImage(graph, image, (file) => {
      files.push(file);
    }),
  );
}

/**
 * Creates an image that is written front to back, with the content that `fill` gives it. False, with nothing written:
 * it is one that is created empty and written like any other.
 */
export async function createSequential(
  graph: Graph,
  image: NewImage,
  fill: (writer: SequentialWriter) => Promise<void>,
): Promise<boolean> {
  if (creator(graph, image.format).createSequential === undefined) return false;
  return withNewFiles(graph, image, async (driver, context) => {
    const writer = await driver.createSequential?.(context);
    if (writer !== undefined) await fill(writer);
    return writer !== undefined;
  });
}

async function withNewFiles<Result>(
  graph: Graph,
  image: NewImage,
  use: (driver: Driver, context: Context) => Promise<Result>,
  opened?: (file: Child) => void,
): Promise<Result> {
  const driver = creator(graph, image.format);
  const options = createOptions(driver, image);
  const files: Child[] = [];
  const openNew = async (filename: string): Promise<Child> => {
    const kind = fileKind(filename);
    if (kind === 'missing') await createFile(filename, 0, false);
    const driverName = graph.setup.protocolFor?.(filename) ?? 'file';
    const child = doorTo(graph, await graph.open({ driver: driverName, filename, discard: 'unmap' }), true);
    files.push(child);
    opened?.(child);
    // Not before it is locked: it may be the source, or in use by somebody else.
    if (kind === 'regular') await child.resize(0, true);
    return child;
  };
  const beside = (filename: string): string =>
    path.resolve(path.dirname(path.resolve(image.filename)), filename);
  try {
    const result = await use(driver, {
      options,
      size: image.size,
      file: await openNew(image.filename),
      subject: image.filename,
      createFile: (filename) => openNew(beside(filename)),
      secret: (id) => graph.secret(id, image.filename),
      describe: (filename, format) => describeImage(graph, beside(filename), format),
    });
    for (const child of files) await child.flush();
    return result;
  } finally {
    for (const child of files) {
      const { name } = child.node;
      await graph.detach(child);
      await graph.remove(name);
    }
  }
}

function createOptions(driver: Driver, image: NewImage): Readonly<Record<string, unknown>> {
  const tree = structuredClone(expandDotted(image.options));
  const options = takeDeclared(tree, driver.createOptions ?? {}, `new ${image.format} image`);
  const [unknown] = Object.keys(tree);
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
