import { BlockError } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import type { Node } from '../../block/node.ts';
import { expandDotted } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import * as v from 'valibot';
import { bool } from '../../block/schema.ts';
import { makeTemporaryFile } from '../../sys/temporary-file.ts';
import { createImage } from '../create-image.ts';

const FORMAT = 'qcow2';

/** Opens a node; with `snapshot=on` writes go to a temporary overlay of that name, which is gone when the process is. */
export async function openBlockdev(graph: Graph, options: OptionsTree): Promise<Node> {
  const { snapshot, ...tree } = expandDotted(options);
  const wanted = v.safeParse(bool('snapshot'), snapshot ?? false);
  if (!wanted.success)
    throw new BlockError(
      'EINVAL',
      `Cannot open a node: option "snapshot" is ${JSON.stringify(snapshot)}, must be on or off`,
    );
  return wanted.output ? openOverTemporary(graph, tree) : graph.open(tree);
}

async function openOverTemporary(graph: Graph, options: OptionsTree): Promise<Node> {
  const { 'node-name': name, ...below } = options;
  const base = await graph.open({ ...below, 'read-only': true });
  const file = makeTemporaryFile(`.${FORMAT}`);
  try {
    await createImage(graph, { filename: file.path, format: FORMAT, size: base.size, options: {} });
    const overlay = await graph.open({
      driver: FORMAT,
      ...(name === undefined ? {} : { 'node-name': name }),
      file: { driver: 'file', filename: file.path },
      backing: base.name,
      discard: 'unmap',
    });
    graph.disown(base);
    return overlay;
  } catch (error) {
    await graph.remove(base.name).catch(() => undefined);
    throw error;
  } finally {
    file.remove();
  }
}
