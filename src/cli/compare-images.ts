import { compareDisks, firstStatusDifference } from '../jobs/compare.ts';
import type { Comparison } from '../jobs/compare.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export interface ImageComparison extends Comparison {
  /** First byte where the images differ in what they store; looked for when asked (`strict`) and nothing else differs. */
  readonly statusDifference: number | undefined;
}

export async function compareImages(
  image: string,
  other: string,
  values: ImageValues & { readonly 'other-format': string | undefined; readonly strict: boolean },
): Promise<ImageComparison> {
  return withGraph(values, async (graph) => {
    const left = await openForCommand(graph, image, values, { writable: false });
    const otherValues = { ...values, format: values['other-format'] };
    const right = await openForCommand(graph, other, otherValues, { writable: false });
    const progress = new Progress('compare');
    try {
      const found = await compareDisks(left.child, right.child, {
        progress: (done, total) => {
          progress.update(done, total);
        },
      });
      const same = values.strict && found.difference === undefined && !found.sizesDiffer;
      const statusDifference = same ? await firstStatusDifference(left.child, right.child) : undefined;
      return { ...found, statusDifference };
    } finally {
      progress.end();
    }
  });
}
