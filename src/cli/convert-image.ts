import path from 'node:path';
import type { Child } from '../block/child.ts';
import { hasCompression } from '../block/compression.ts';
import type { SequentialWriter } from '../block/driver.ts';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import type { Node } from '../block/node.ts';
import { alignUp } from '../util/sizes.ts';
import { keepContent } from '../jobs/rebase.ts';
import { copyDisk } from '../jobs/copy.ts';
import { copySequentially } from '../jobs/copy-sequential.ts';
import type { JobControl } from '../jobs/segments.ts';
import { lookAtBacking } from './backing-of-new.ts';
import { cacheOptions } from './cache-mode.ts';
import type { CacheMode } from './cache-mode.ts';
import { copyBitmaps } from './copy-bitmaps.ts';
import { createSequential, createShown, sizeInFormat, sizeOption } from './create-image.ts';
import type { NewImage } from './create-image.ts';
import { absoluteName } from './image-arguments.ts';
import type { ImageValues } from './image-arguments.ts';
import { parseKeyValues } from './key-values.ts';
import { NewFiles, orDiscard } from './new-files.ts';
import { complain } from './output.ts';
import { withProgress } from './progress.ts';
import { doorTo, openForCommand, withGraph } from './with-graph.ts';

const CHUNK = 1024 * 1024;
/** What --bitmaps can write to. */
const BITMAP_FORMAT = 'qcow2';

export interface ConvertOptions extends ImageValues {
  readonly 'target-format': string;
  readonly createOptions: Readonly<Record<string, string>>;
  readonly compress: boolean;
  readonly snapshot: string | undefined;
  readonly backing: string | undefined;
  readonly 'backing-format': string | undefined;
  readonly 'no-create': boolean;
  readonly 'target-image-opts': boolean;
  readonly 'target-is-zero': boolean;
  readonly bitmaps: boolean;
  readonly 'sparse-size': number;
  readonly parallel: number;
  readonly 'rate-limit': number | undefined;
  readonly salvage: boolean;
  readonly cache: CacheMode;
  readonly 'source-cache': CacheMode;
}

interface Made {
  readonly filename: string;
  readonly format: string;
  readonly 'virtual-size': number;
}

export async function convertImage(image: string, target: string, options: ConvertOptions): Promise<Made> {
  refuseTogether(target, options);
  const below =
    options.backing === undefined
      ? undefined
      : { filename: options.backing, format: options['backing-format'] };
  const known =
    below === undefined || options['no-create']
      ? undefined
      : await lookAtBacking({ filename: target, format: options['target-format'] }, below, options);
  const files = new NewFiles();
  return orDiscard(files, () =>
    withGraph(options, async (graph) => {
      const view = options.snapshot === undefined ? {} : { snapshot: options.snapshot };
      const { cache } = cacheOptions(options['source-cache']);
      const opened = await openForCommand(graph, image, options, {
        writable: false,
        options: { ...view, ...cache },
      });
      const source = await slowed(graph, opened, options['rate-limit']);
      const { size } = source;
      const made = { filename: target, format: options['target-format'], 'virtual-size': size };
      if (!options['no-create']) {
        const image = newImage(target, size, options, known?.format);
        const control = (): JobControl => lossesOf(options);
        if (await createSequential(graph, image, files, (writer) => copyInOrder(source, writer, control())))
          return made;
        await createShown(graph, image, files);
      }
      const into = await openTarget(graph, target, options);
      if (into.size < size) {
        const text = `it has ${into.size} bytes, must have the ${size} of the source at least`;
        throw new BlockError('EINVAL', `Cannot convert into "${target}": ${text}`);
      }
      await copy(source, into, options);
      if (options.bitmaps) await copyBitmaps(graph, opened.node, into.node);
      await into.flush();
      return made;
    }),
  );
}

function refuseTogether(target: string, options: ConvertOptions): void {
  const refuse = (why: string): never => {
    throw new BlockError('ENOTSUP', `Cannot convert into "${target}": ${why}`);
  };
  const format = options['target-format'];
  if (options.bitmaps && format !== BITMAP_FORMAT)
    refuse(`format "${format}" keeps no bitmaps, ${BITMAP_FORMAT} does`);
  if (options['target-image-opts'] && !options['no-create'])
    refuse('--target-image-opts names an image that exists, which takes --no-create');
  if (options['target-is-zero'] && !options['no-create'])
    refuse('a new image is known to be zero, --target-is-zero is for --no-create');
  if (options.salvage && options.backing !== undefined)
    refuse('--salvage makes zeroes of what can not be read, which would hide the backing file');
  if (options['target-is-zero'] && options.backing !== undefined)
    refuse('over a backing file nothing is known to be zero: leave out --target-is-zero');
}

/** The source with a limit of bytes a second, if there is one. */
async function slowed(
  graph: Graph,
  { node, child }: { readonly node: Node; readonly child: Child },
  rate: number | undefined,
): Promise<Child> {
  if (rate === undefined) return child;
  graph.addObject('throttle-group', 'rate', { limits: { 'bps-read': rate } });
  const filter = await graph.open({ driver: 'throttle', 'throttle-group': 'rate', file: node.name });
  return doorTo(graph, filter, false);
}

/** With --salvage the job goes on where the source can't be read. */
function lossesOf({ salvage }: ConvertOptions): JobControl {
  if (!salvage) return {};
  const lost = (offset: number, length: number, error: unknown): void => {
    const why = error instanceof Error ? error.message : String(error);
    complain(`warning: ${length} bytes at ${offset} can not be read and become zeroes: ${why}`);
  };
  return { lost };
}

function newImage(
  target: string,
  size: number,
  options: ConvertOptions,
  backingFormat: string | undefined,
): NewImage {
  const { size: wanted, ...createOptions } = options.createOptions;
  const backing = options.backing === undefined ? {} : { backing_file: options.backing };
  const format = backingFormat === undefined ? {} : { backing_fmt: backingFormat };
  return {
    filename: path.resolve(target),
    format: options['target-format'],
    size: sizeInFormat(options['target-format'], Math.max(size, sizeOption(wanted) ?? 0)),
    options: { ...createOptions, ...backing, ...format },
  };
}

/** What is left of a failed one lacks its end, so that nothing takes it for an image. */
async function copyInOrder(source: Child, writer: SequentialWriter, control: JobControl): Promise<void> {
  await shown((shownControl) => copySequentially(source, writer, { ...control, ...shownControl }));
}

async function openTarget(graph: Graph, target: string, options: ConvertOptions): Promise<Child> {
  const { cache } = cacheOptions(options.cache);
  const keys = keyNames(options.createOptions);
  const common = { discard: 'unmap', ...cache, ...keys };
  const node = options['target-image-opts']
    ? await graph.open({ ...parseKeyValues(target), ...common })
    : await graph.openImage(absoluteName(target), options['target-format'], common);
  if (!options.compress) return doorTo(graph, node, true);
  if (!hasCompression(node)) {
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
  const image = options.compress ? into.node.filteredChild().node : into.node;
  await shown(async (control) => {
    if (image.cow !== undefined && options.backing !== undefined) {
      await keepContent(into, source, image.cow, control);
      return;
    }
    const fresh = !options['no-create'] && options['target-format'] !== 'host_device';
    const units = options.compress ? compressedUnits(image) : { sparse: options['sparse-size'] };
    const { parallel } = options;
    const targetIsZero = fresh || options['target-is-zero'];
    await copyDisk(source, into, { ...control, ...lossesOf(options), ...units, parallel, targetIsZero });
  });
}

async function shown(run: (control: JobControl) => Promise<void>): Promise<void> {
  await withProgress('convert', (progress) => run({ progress }));
}

/** Each cluster is written once, as a whole. */
function compressedUnits(image: Node): { unit: number; sparse: number; chunk: number } {
  const unit = image.limits.allocationUnit;
  return { unit, sparse: unit, chunk: alignUp(CHUNK, unit) };
}
