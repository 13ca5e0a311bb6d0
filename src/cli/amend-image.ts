import { BlockError } from '../block/errors.ts';
import { LUKS_AMEND_OPTIONS } from '../crypto/luks-amend.ts';
import type { ImageValues } from './image-arguments.ts';
import { Progress } from './progress.ts';
import { askSecret } from './secrets.ts';
import { openForCommand, withGraph } from './with-graph.ts';

export interface AmendValues extends ImageValues {
  readonly force: boolean;
}

export async function amendImage(
  image: string,
  values: AmendValues,
  wanted: Readonly<Record<string, string>>,
): Promise<void> {
  await withGraph(values, async (graph) => {
    const mode = { writable: true, options: belowFor(wanted) };
    const { node } = await openForCommand(graph, image, values, mode);
    const { impl } = node;
    if (impl.family !== 'mapping' || impl.amend === undefined) {
      const text = `an image of format "${node.driver.name}" stays as it was created`;
      throw new BlockError('ENOTSUP', `Cannot amend "${image}": ${text}`);
    }
    const secret = async (id: string | undefined): Promise<Buffer> => {
      if (id === undefined) return graph.secrets.keep(`new key of ${image}`, await askNewKey(image));
      return (await graph.secret(id, image)) ?? Buffer.alloc(0);
    };
    const progress = new Progress('amend', 'steps');
    const tell = (done: number, total: number): void => {
      progress.update(done, total);
    };
    try {
      const request = { options: wanted, force: values.force, secret, progress: tell };
      await graph.change([node], () => impl.amend?.(request));
    } finally {
      progress.end();
    }
  });
}

/** A backing file need not be there, but for a new size: what of it lies behind the old end must not show. */
function belowFor(wanted: Readonly<Record<string, string>>): Readonly<Record<string, unknown>> {
  const plainKeys: readonly string[] = LUKS_AMEND_OPTIONS;
  const isForVolume = Object.keys(wanted).every((name) => plainKeys.includes(name));
  return isForVolume || 'size' in wanted ? {} : { backing: null };
}

async function askNewKey(image: string): Promise<Buffer> {
  if (process.stdin.isTTY) return askSecret(image, true);
  const text = 'new-secret is missing: name a key that is given with --object secret,id=ID,file=PATH';
  throw new BlockError('ENOKEY', `Cannot amend the keys of "${image}": ${text}`);
}
