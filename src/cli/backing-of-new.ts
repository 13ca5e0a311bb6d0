import path from 'node:path';
import { BlockError } from '../block/errors.ts';
import type { ImageValues } from './image-arguments.ts';
import { withGraph } from './with-graph.ts';

export interface NamedBacking {
  /** As the new image is to hold it; relative to its folder. */
  readonly filename: string;
  /** Found out from its content when undefined. */
  readonly format: string | undefined;
}

/**
 * A look at the file that a new image is to lie over. No key is needed for it.
 * @returns its size, and its format unless the new image has no place for that
 */
export async function lookAtBacking(
  image: { readonly filename: string; readonly format: string },
  backing: NamedBacking,
  values: ImageValues,
): Promise<{ readonly size: number; readonly format: string | undefined }> {
  const { filename } = backing;
  const hasProtocol = /^[a-z][a-z0-9+.-]*:/.test(filename);
  const at = hasProtocol ? filename : path.resolve(path.dirname(path.resolve(image.filename)), filename);
  const keyless = { ...values, 'key-file': undefined, 'key-fd': undefined, 'key-env': undefined, object: [] };
  const look = withGraph(
    keyless,
    async (graph) => {
      const node = await graph.openImage(at, backing.format, { 'read-only': true, 'force-share': true });
      const names = graph.drivers.get(image.format)?.createOptions ?? {};
      const noted = backing.format ?? ('backing_fmt' in names ? node.driver.name : undefined);
      return { size: node.size, format: noted };
    },
    true,
  );
  return look.catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new BlockError('EINVAL', `Cannot create "${image.filename}" over "${filename}": ${why}`, {}, error);
  });
}
