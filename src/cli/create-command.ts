import path from 'node:path';
import { BlockError } from '../block/errors.ts';
import { lookAtBacking } from './backing-of-new.ts';
import { createShown, createSequential, sizeInFormat, sizeOption } from './create-image.ts';
import type { NewImage } from './create-image.ts';
import type { ImageValues } from './image-arguments.ts';
import { NewFiles, orDiscard } from './new-files.ts';
import { complain } from './output.ts';
import { withGraph } from './with-graph.ts';

export interface CreateRequest {
  readonly image: string;
  /** As the user gave it; that of the backing file when undefined. */
  readonly size: string | undefined;
  readonly format: string;
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
  /** The backing file is not looked at. */
  readonly unsafe: boolean;
  readonly options: Readonly<Record<string, unknown>>;
}

export async function createNewImage(
  values: ImageValues,
  request: CreateRequest,
): Promise<{ filename: string; format: string; 'virtual-size': number }> {
  const image = await newImage(values, request);
  const files = new NewFiles();
  await orDiscard(files, () =>
    withGraph(values, async (graph) => {
      if (await createSequential(graph, image, files, (writer) => writer.finish())) {
        const how = `it is written front to back, once: "blockfuse convert -O ${request.format} -o ..." makes one with content`;
        complain(`warning: "${request.image}" is complete and empty, and can only be read; ${how}`);
      } else await createShown(graph, image, files);
    }),
  );
  return { filename: request.image, format: request.format, 'virtual-size': image.size };
}

async function newImage(values: ImageValues, request: CreateRequest): Promise<NewImage> {
  const { backing_file: named, backing_fmt: namedFormat, size: inOptions, ...others } = request.options;
  const backing = text(request.backing ?? named);
  const given = text(request.backingFormat ?? namedFormat);
  const wanted = sizeOption(request.size ?? text(inOptions));
  const below =
    backing === undefined || request.unsafe
      ? undefined
      : await lookAtBacking(
          { filename: request.image, format: request.format },
          { filename: backing, format: given },
          values,
        );
  const bytes = wanted ?? below?.size;
  if (bytes === undefined) {
    const why =
      backing === undefined ? 'a size is needed, or a backing file to take it from' : 'a size is needed';
    throw new BlockError('EINVAL', `Cannot create "${request.image}": ${why}`);
  }
  // What the content is taken for is decided now, not whenever somebody opens the image.
  const format = given ?? below?.format;
  const options = {
    ...others,
    ...(backing === undefined ? {} : { backing_file: backing }),
    ...(format === undefined ? {} : { backing_fmt: format }),
  };
  const size = sizeInFormat(request.format, bytes);
  return { filename: path.resolve(request.image), format: request.format, size, options };
}

const text = (given: unknown): string | undefined =>
  typeof given === 'string' && given !== '' ? given : undefined;
