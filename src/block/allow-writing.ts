import type { Node } from './node.ts';

/**
 * The nodes to reopen so that `top` may become writable, children first: those that were opened by themselves and have at or
 * below them one that wanted to be written and was refused. Backing nodes are read-only for another reason.
 */
export function nodesToRetry(top: Node): Node[] {
  const found = new Set<Node>();
  collect(top, found);
  return [...found];
}

/** Whether there is such a node at or below. */
function collect(node: Node, found: Set<Node>): boolean {
  let is = wasRefused(node);
  for (const child of node.children.values()) if (child !== node.cow && collect(child.node, found)) is = true;
  if (is) found.add(openedWith(node));
  return is;
}

function wasRefused({ driver, impl, common }: Node): boolean {
  return driver.kind === 'protocol' && impl.readOnly === true && common.autoReadOnly && !common.readOnly;
}

/** The node within whose options this one was opened: it is reopened with it. */
function openedWith(node: Node): Node {
  let top = node;
  while (top.heirOf !== undefined) top = top.heirOf;
  return top;
}
