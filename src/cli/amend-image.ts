import { BlockError } from '../block/errors.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export async function amendImage(
  image: string,
  values: ImageValues,
  wanted: Readonly<Record<string, string>>,
): Promise<void> {
  await withGraph(values, async (graph) => {
    const { backing_file: backing, backing_fmt: format, ...others } = wanted;
    const alone = { writable: true, options: { backing: null } };
    const { node } = await openForCommand(graph, image, values, alone);
    const { impl } = node;
    if (impl.family !== 'mapping' || impl.amend === undefined) {
      const text = `an image of format "${node.driver.name}" stays as it was created`;
      throw new BlockError('ENOTSUP', `Cannot amend "${image}": ${text}`);
    }
    if (backing !== undefined || format !== undefined) {
      const name = backing ?? (await impl.info?.())?.backingFilename;
      await graph.change([node], () => impl.changeBacking?.(name === '' ? undefined : name, format));
    }
    const progress = new Progress('amend', 'steps');
    try {
      await graph.change([node], () =>
        impl.amend?.(others, (done, total) => {
          progress.update(done, total);
        }),
      );
    } finally {
      progress.end();
    }
  });
}
