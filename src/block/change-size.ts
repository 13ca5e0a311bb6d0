import { alignUp } from '../util/sizes.ts';
import type { Node } from './node.ts';

/**
 * Another size for the driver of a node, all of which the caller holds exclusively. A backing file that is longer than the
 * disk was must not show through where the disk has grown.
 * @param how.atLeast several writes may grow the node at once: whoever comes second finds it large enough
 */
export async function changeDriverSize(
  node: Node,
  size: number,
  how: { shrink: boolean; atLeast: boolean },
): Promise<void> {
  const { size: old } = node;
  if (how.atLeast && size <= old) return;
  const whole = how.atLeast ? alignUp(size, node.limits.sizeUnit) : size;
  await node.impl.resize?.(whole, how.shrink);
  const end = Math.min(node.size, node.cow?.size ?? 0);
  if (end > old) await node.io.zeroLocked?.(old, end - old);
}
