import type { BlockStatus } from './extent.ts';
import { Extent } from './extent.ts';
import type { Node } from './node.ts';

/**
 * What a node reads as at `offset`, and which layer of its chain decides: the answer of one `map` entry, SEEK_DATA and
 * SEEK_HOLE. `out.length` is 0 only at the end of the node.
 */
export async function chainStatus(top: Node, offset: number, max: number, out: BlockStatus): Promise<void> {
  Object.assign(out, { length: 0, data: false, zero: false, allocated: false, compressed: false, depth: 0 });
  out.offset = -1;
  out.node = '';
  let length = Math.min(max, Math.max(0, top.size - offset));
  const extent = new Extent();
  for (let node = top, depth = 0; length > 0; depth += 1) {
    while (!node.tryStatus(offset, length, extent)) await node.io.loadStatus();
    out.depth = depth;
    length = Math.min(length, extent.kind === 'eof' ? length : extent.length);
    if (extent.kind !== 'unallocated') {
      // A hole of a file has its place, as data has.
      if (node.impl.family === 'request' && extent.kind === 'zero') setPlace(out, node.name, offset);
      return describe(node, extent, length, out);
    }
    const { cow } = node;
    if (cow === undefined || offset >= cow.size) break;
    length = Math.min(length, cow.size - offset);
    node = cow.node;
  }
  out.length = length;
  out.zero = length > 0;
}

async function describe(node: Node, extent: Extent, length: number, out: BlockStatus): Promise<void> {
  out.length = length;
  out.allocated = extent.kind !== 'eof';
  out.compressed = extent.compressed;
  out.zero = extent.kind === 'zero' || extent.kind === 'eof';
  out.data = !out.zero;
  const { child } = extent;
  if (node.impl.family === 'filter' && child !== undefined) {
    await descend(child.node, extent.offset, out);
    return;
  }
  if (extent.kind !== 'data' || (node.impl.family === 'mapping' && node.impl.codec !== undefined)) return;
  setPlace(out, child?.node.name ?? node.name, extent.offset);
  const below = child !== undefined && node.impl.family === 'mapping' && node.impl.recurseStatus === true;
  if (below) await descend(child.node, extent.offset, out);
}

function setPlace(out: BlockStatus, node: string, offset: number): void {
  out.node = node;
  out.offset = offset;
}

/** The same range in the node below, which knows better whether it is a hole. The depth stays that of the layer. */
async function descend(node: Node, offset: number, out: BlockStatus): Promise<void> {
  const { depth } = out;
  const { length } = out;
  await chainStatus(node, offset, length, out);
  out.depth += depth;
  if (out.length > 0) return;
  out.length = length;
  out.zero = true;
}
