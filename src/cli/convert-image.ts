import path from 'node:path';
import type { Child } from '../block/child.ts';
import type { SequentialWriter } from '../block/driver.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import { alignUp } from '../util/sizes.ts';
import { keepContent } from '../jobs/rebase.ts';
import { copyDisk } from '../jobs/copy.ts';
import { copySequentially } from '../jobs/copy-sequential.ts';
import type { JobControl } from '../jobs/segments.ts';
import { copyBitmaps } from './copy-bitmaps.ts';
import { createSequential, createShown } from './create-image.ts';
import type { NewImage } from './create-image.ts';
import type { ImageValues } from './image-arguments.ts';
import { withProgress } from './progress.ts';
import { doorTo, openForCommand, withGraph } from './with-graph.ts';

const CHUNK = 1024 * 1024;
/** What --bitmaps can write to. */
const BITMAP_FORMAT = 'qcow2';

export interface ConvertOptions extends ImageValues {
  readonly 'target-format': string;
  readonly createOptions: Readonly<Record<string, unknown>>;
  readonly compress: boolean;
  readonly snapshot: string | undefined;
  readonly backing: string | undefined;
  readonly 'backing-format': string | undefined;
  readonly 'no-create': boolean;
  readonly 'target-is-zero': boolean;
  readonly bitmaps: boolean;
}

export async function convertImage(
  image: string,
  target: string,
  options: ConvertOptions,
): Promise<{ filename: string; format: string; 'virtual-size': number }> {
  if (options.bitmaps && options['target-format'] !== BITMAP_FORMAT) {
    const text = `Cannot convert into "${target}": format "${options['target-format']}" keeps no bitmaps, ${BITMAP_FORMAT} does`;
    throw new BlockError('ENOTSUP', text);
  }
  return withGraph(options, async (graph) => {
    const view = options.snapshot === undefined ? {} : { snapshot: options.snapshot };
    const source = await openForCommand(graph, image, options, { writable: false, options: view });
    const { size } = source.child;
    const format = options['target-format'];
    const made = { filename: target, format, 'virtual-size': size };
    if (!options['no-create']) {
      const image = newImage(target, size, options);
      if (await createSequential(graph, image, (writer) => copyInOrder(source.child, writer))) return made;
      await createShown(graph, image);
    }
    const into = await openTarget(graph, target, options);
    if (into.size < size) {
      const text = `it has ${into.size} bytes, must have the ${size} of the source at least`;
      throw new BlockError('EINVAL', `Cannot convert into "${target}": ${text}`);
    }
    await copy(source.child, into, options);
    if (options.bitmaps) await copyBitmaps(graph, source.node, into.node);
    await into.flush();
    return made;
  });
}

function newImage(target: string, size: number, options: ConvertOptions): NewImage {
  const backing = options.backing === undefined ? {} : { backing_file: options.backing };
  const format = options['backing-format'] === undefined ? {} : { backing_fmt: options['backing-format'] };
  return {
    filename: path.resolve(target),
    format: options['target-format'],
    size,
    options: { ...options.createOptions, ...backing, ...format },
  };
}

/** What is left of a failed one lacks its end, so that nothing takes it for an image. */
async function copyInOrder(source: Child, writer: SequentialWriter): Promise<void> {
  await shown((control) => copySequentially(source, writer, control));
}

async function openTarget(graph: Graph, target: string, options: ConvertOptions): Promise<Child> {
  const file = path.resolve(target);
  const node = await graph.openImage(file, options['target-format'], {
    discard: 'unmap',
    ...keyNames(options.createOptions),
  });
  if (!options.compress) return doorTo(graph, node, true);
  if (node.impl.family !== 'mapping' || node.impl.writeCompressed === undefined) {
    const text = `Cannot write "${target}" compressed: format "${node.driver.name}" has no compressed writes`;
    throw new BlockError('ENOTSUP', text);
  }
  const filter = await graph.open({ driver: 'compress', file: node.name });
  return doorTo(graph, filter, true);
}

/** The new image is opened with the key that it was made with. */
function keyNames(given: ConvertOptions['createOptions']): Record<string, unknown> {
  const names = ['key-secret', 'encrypt.key-secret'].filter((name) => given[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, given[name]]));
}

async function copy(source: Child, into: Child, options: ConvertOptions): Promise<void> {
  await shown(async (control) => {
    if (options.backing !== undefined) {
      await keepContent(into, source, into.node.cow, control);
      return;
    }
    const fresh = !options['no-create'] && options['target-format'] !== 'host_device';
    const units = options.compress ? compressedUnits(into.node.filteredChild()) : {};
    const targetIsZero = fresh || options['target-is-zero'];
    await copyDisk(source, into, { ...control, ...units, targetIsZero });
  });
}

async function shown(run: (control: JobControl) => Promise<void>): Promise<void> {
  await withProgress('convert', (progress) => run({ progress }));
}

/** Each cluster is written once, as a whole. */
function compressedUnits(image: Child): { unit: number; sparse: number; chunk: number } {
  const unit = image.node.limits.allocationUnit;
  return { unit, sparse: unit, chunk: alignUp(CHUNK, unit) };
}
