import { Extent } from './extent.ts';
import type { Node } from './node.ts';

/**
 * The node whose host file is this node byte for byte, over the whole of it, with nothing in between that has to see
 * the bytes; undefined where there is none. Found from the mapping itself: any format that maps one to one qualifies.
 */
export function wholeHostFile(node: Node): Node | undefined {
  const { impl } = node;
  if (node.watch?.isActive === true) return undefined;
  if (node.common.detectZeroes !== 'off' || (node.guard !== undefined && !node.readOnly)) return undefined;
  if (impl.family === 'request') return impl.hostFd === undefined ? undefined : node;
  if (impl.family !== 'mapping' || impl.codec !== undefined || node.size === 0) return undefined;
  const extent = new Extent();
  if (!impl.tryMap(0, node.size, extent) || extent.kind !== 'data' || extent.child === undefined)
    return undefined;
  const { child } = extent;
  const whole = extent.offset === 0 && extent.length === node.size && child.size === node.size;
  return whole && (node.readOnly || extent.writable) ? wholeHostFile(child.node) : undefined;
}
