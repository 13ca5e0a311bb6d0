import path from 'node:path';
import type { Child } from '../block/child.ts';
import type { Graph } from '../block/graph.ts';
import { keepContent } from '../jobs/rebase.ts';
import { copyDisk } from '../jobs/copy.ts';
import { createImage } from './create-image.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { doorTo, openForCommand, withGraph } from './with-graph.ts';

export interface ConvertOptions extends ImageValues {
  readonly 'target-format': string;
  readonly createOptions: Readonly<Record<string, unknown>>;
  readonly compress: boolean;
  readonly snapshot: string | undefined;
  readonly backing: string | undefined;
  readonly 'backing-format': string | undefined;
  readonly 'no-create': boolean;
  readonly 'target-is-zero': boolean;
}

export async function convertImage(
  image: string,
  target: string,
  options: ConvertOptions,
): Promise<{ filename: string; format: string; 'virtual-size': number }> {
  return withGraph(options, async (graph) => {
    const view = options.snapshot === undefined ? {} : { snapshot: options.snapshot };
    const source = await openForCommand(graph, image, options, { writable: false, options: view });
    const { size } = source.child;
    const format = options['target-format'];
    if (!options['no-create']) await createTarget(graph, target, size, options);
    const into = await openTarget(graph, target, options);
    await copy(source.child, into, options);
    await into.flush();
    return { filename: target, format, 'virtual-size': size };
  });
}

async function createTarget(
  graph: Graph,
  target: string,
  size: number,
  options: ConvertOptions,
): Promise<void> {
  const backing = options.backing === undefined ? {} : { backing_file: options.backing };
  const format = options['backing-format'] === undefined ? {} : { backing_fmt: options['backing-format'] };
  await createImage(graph, {
    filename: path.resolve(target),
    format: options['target-format'],
    size,
    options: { ...options.createOptions, ...backing, ...format },
  });
}

async function openTarget(graph: Graph, target: string, options: ConvertOptions): Promise<Child> {
  const file = path.resolve(target);
  const node = await graph.openImage(file, options['target-format'], { discard: 'unmap' });
  if (!options.compress) return doorTo(graph, node, true);
  const filter = await graph.open({ driver: 'compress', file: node.name });
  return doorTo(graph, filter, true);
}

async function copy(source: Child, into: Child, options: ConvertOptions): Promise<void> {
  const progress = new Progress('convert');
  const control = {
    progress: (done: number, total: number): void => {
      progress.update(done, total);
    },
  };
  try {
    if (options.backing !== undefined) {
      await keepContent(into, source, into.node.cow, control);
      return;
    }
    const fresh = !options['no-create'] && options['target-format'] !== 'host_device';
    await copyDisk(source, into, { ...control, targetIsZero: fresh || options['target-is-zero'] });
  } finally {
    progress.end();
  }
}
