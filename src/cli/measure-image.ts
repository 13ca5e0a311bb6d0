import type { Driver, ImageMeasure } from '../block/driver.ts';
import { bitmapStoreOf } from '../block/dirty-extents.ts';
import { BlockError } from '../block/errors.ts';
import { takeDeclared } from '../block/options.ts';
import { dataUnits } from '../jobs/data-units.ts';
import type { ImageValues } from './image-arguments.ts';
import { withProgress } from './progress.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export interface MeasureOptions extends ImageValues {
  readonly 'target-format': string;
  readonly createOptions: Readonly<Record<string, string>>;
  readonly size: number | undefined;
  readonly snapshot: string | undefined;
}

export async function measureImage(
  image: string | undefined,
  options: MeasureOptions,
): Promise<ImageMeasure> {
  return withGraph(options, async (graph) => {
    const format = options['target-format'];
    const measure = measurer(graph.drivers.get(format), format);
    const tree: Record<string, unknown> = { ...options.createOptions };
    const known = takeDeclared(tree, graph.drivers.get(format)?.createOptions ?? {}, `new ${format} image`);
    const [unknown] = Object.keys(tree);
    if (unknown !== undefined)
      throw new BlockError(
        'EINVAL',
        `Cannot measure: format "${format}" has no option "${unknown}" to create with`,
      );
    if (image === undefined) return measure({ options: known, size: options.size ?? 0 });
    const view = options.snapshot === undefined ? {} : { snapshot: options.snapshot };
    const { node, child } = await openForCommand(graph, image, options, { writable: false, options: view });
    const dataBytes = (unit: number): Promise<number> =>
      withProgress('measure', (progress) => dataUnits(child, unit, { progress }));
    const stored = bitmapStoreOf(node)?.list();
    const bitmaps = stored?.filter(({ inconsistent }) => !inconsistent);
    const kept = bitmaps === undefined ? {} : { bitmaps };
    return measure({ options: known, size: child.size, ...kept, dataBytes });
  });
}

function measurer(driver: Driver | undefined, format: string): NonNullable<Driver['measure']> {
  const measure = driver?.measure?.bind(driver);
  if (measure !== undefined) return measure;
  throw new BlockError('ENOTSUP', `Cannot measure for format "${format}": only raw, qcow2 and luks can be`);
}
