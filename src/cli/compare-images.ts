import { compareDisks } from '../jobs/compare.ts';
import type { Comparison } from '../jobs/compare.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export async function compareImages(
  image: string,
  other: string,
  values: ImageValues & { readonly 'other-format': string | undefined },
): Promise<Comparison> {
  return withGraph(values, async (graph) => {
    const left = await openForCommand(graph, image, values, { writable: false });
    const otherValues = { ...values, format: values['other-format'] };
    const right = await openForCommand(graph, other, otherValues, { writable: false });
    const progress = new Progress('compare');
    try {
      return await compareDisks(left.child, right.child, {
        progress: (done, total) => {
          progress.update(done, total);
        },
      });
    } finally {
      progress.end();
    }
  });
}
