/** What the tests of VHDX images share. */
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { vhdxDriver } from '../../drivers/format/vhdx/driver.ts';
import { decodeHeader, HEADER_LENGTH, HEADER_PLACES } from '../../drivers/format/vhdx/header.ts';
import type { VhdxHeader } from '../../drivers/format/vhdx/header.ts';
import { rawDriver } from '../../drivers/format/raw.ts';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { Graph } from '../../src/block/graph.ts';
import { siblings } from '../../src/sys/folders.ts';
import { ModelDisk } from '../helpers/model-disk.ts';
import { createImage, hold, MIB, mixedDisk, release } from './small-image.ts';

export const SIZE = 9 * MIB + 4096 * 3;

export function graphOf(t: ExecutionContext, warn: (message: string) => void = () => {}): Graph {
  const graph = new Graph({ drivers: [rawDriver, fileDriver, vhdxDriver], siblings, warn });
  t.teardown(() => graph.close());
  return graph;
}

export const forWriting = (path: string) => ({
  driver: 'vhdx',
  discard: 'unmap',
  file: { driver: 'file', filename: path },
});

export async function headerOf(path: string): Promise<VhdxHeader> {
  const bytes = await readFile(path);
  const headers = HEADER_PLACES.map((place) => decodeHeader(bytes.subarray(place, place + HEADER_LENGTH)));
  const [current] = headers
    .filter((header) => typeof header !== 'string')
    .sort((one, other) => (other.sequence_number > one.sequence_number ? 1 : -1));
  if (current === undefined) throw new Error('no valid header');
  return current;
}

export async function writtenImage(graph: Graph, path: string): Promise<ModelDisk> {
  await createImage(graph, vhdxDriver, path, { size: SIZE });
  const model = new ModelDisk(SIZE);
  mixedDisk(7, SIZE).copy(model.bytes);
  const child = await hold(graph, forWriting(path));
  await child.write(model.bytes, 0);
  await release(graph, child);
  return model;
}
