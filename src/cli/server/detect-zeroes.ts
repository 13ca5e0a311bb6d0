import type { Node } from '../../block/node.ts';

/** Before anybody uses the node: where its format has a way to store zeroes, written zeroes take no room. */
export function detectZeroes(node: Node, wanted: boolean): void {
  const { impl, common } = node;
  if (!wanted || impl.family !== 'mapping' || impl.tryZero === undefined) return;
  node.common = { ...common, detectZeroes: 'unmap' };
  node.options = { ...node.options, 'detect-zeroes': 'unmap' };
}
