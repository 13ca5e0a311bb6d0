import type { Node } from './node.ts';

/** Whether writes that ask for compression get it: by the format, whatever filters stand over it. */
export function hasCompression(node: Node): boolean {
  const { impl } = node;
  if (impl.family === 'filter') return hasCompression(node.filteredChild().node);
  return impl.family === 'mapping' && impl.writeCompressed !== undefined;
}
