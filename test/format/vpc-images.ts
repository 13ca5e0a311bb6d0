/** What the tests of VHD images share. */
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { vpcDriver } from '../../drivers/format/vpc/driver.ts';
import { decodeFooter } from '../../drivers/format/vpc/footer.ts';
import type { Footer } from '../../drivers/format/vpc/footer.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { Graph } from '../../src/block/graph.ts';
import { siblings } from '../../src/sys/folders.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { createImage, hold, MIB, mixedDisk, release } from './small-image.ts';

export const SIZE = 9 * MIB + 512 * 3;

export function graphOf(t: ExecutionContext, warn: (message: string) => void = () => {}): Graph {
  const graph = new Graph({ drivers: [rawDriver, fileDriver, vpcDriver], siblings, warn });
  t.teardown(() => graph.close());
  return graph;
}

export const forWriting = (path: string) => ({
  driver: 'vpc',
  discard: 'unmap',
  file: { driver: 'file', filename: path },
});

export async function footerOf(path: string): Promise<Footer> {
  return decodeFooter((await readFile(path)).subarray(-512));
}

export async function writtenImage(
  t: ExecutionContext,
  graph: Graph,
  path: string,
  subformat: string,
): Promise<ModelDisk> {
  await createImage(graph, vpcDriver, path, { size: SIZE, options: { subformat } });
  const model = new ModelDisk(SIZE);
  mixedDisk(7, SIZE).copy(model.bytes);
  const child = await hold(graph, forWriting(path));
  await child.write(model.bytes, 0);
  await release(graph, child);
  t.is(child.size, SIZE);
  return model;
}
