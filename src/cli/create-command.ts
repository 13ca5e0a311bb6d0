import path from 'node:path';
import { BlockError } from '../block/errors.ts';
import type { Graph } from '../block/graph.ts';
import { createShown, createSequential } from './create-image.ts';
import type { ImageValues } from './image-arguments.ts';
import { complain } from './output.ts';
import { withGraph } from './with-graph.ts';

export interface CreateRequest {
  readonly image: string;
  /** Bytes; that of the backing file when undefined. */
  readonly size: number | undefined;
  readonly format: string;
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
  readonly options: Readonly<Record<string, unknown>>;
}

export async function createNewImage(
  values: ImageValues,
  request: CreateRequest,
): Promise<{ filename: string; format: string; 'virtual-size': number }> {
  return withGraph(values, async (graph) => {
    const backing = request.backing ?? request.options['backing_file'];
    const backingFormat = request.backingFormat ?? request.options['backing_fmt'];
    const size = request.size ?? (await backingSize(graph, request.image, backing, backingFormat));
    const options = {
      ...request.options,
      ...(backing === undefined ? {} : { backing_file: backing }),
      ...(backingFormat === undefined ? {} : { backing_fmt: backingFormat }),
    };
    const image = { filename: path.resolve(request.image), format: request.format, size, options };
    if (await createSequential(graph, image, (writer) => writer.finish())) {
      const how = `it is written front to back, once: "blockfuse convert -O ${request.format} -o ..." makes one with content`;
      complain(`warning: "${request.image}" is complete and empty, and can only be read; ${how}`);
    } else await createShown(graph, image);
    return { filename: request.image, format: request.format, 'virtual-size': size };
  });
}

async function backingSize(graph: Graph, image: string, backing: unknown, format: unknown): Promise<number> {
  if (typeof backing !== 'string') {
    throw new BlockError(
      'EINVAL',
      `Cannot create "${image}": a size is needed, or a backing file to take it from`,
    );
  }
  const filename = path.resolve(path.dirname(path.resolve(image)), backing);
  const driver = typeof format === 'string' ? format : undefined;
  const node = await graph.openImage(filename, driver, { 'read-only': true });
  const { size, name } = node;
  await graph.remove(name);
  return size;
}
