import type { Child } from './child.ts';
import type { Node } from './node.ts';
import { reaches } from './rewire.ts';

interface Section {
  readonly nodes: readonly Node[];
  /** Doors that were made meanwhile. */
  readonly late: Child[];
}

const sections = new Set<Section>();

/**
 * A section in which no request is under way above `nodes`, so that the graph may change under its users:
 *
 *     begin: every root above (export, job) holds new requests back -> those under way finish -> nodes are idle
 *     ...    the change, in one turn
 *     end:   the same roots go on, over the graph as it is now
 *
 * Roots without hooks are held at their door (child.ts). Drivers that make requests wait on purpose let them go meanwhile.
 */
export async function withDrained<T>(nodes: readonly Node[], run: () => T | Promise<T>): Promise<T> {
  const section: Section = { nodes, late: [] };
  const edges = new Set<Child>();
  const seen = new Set<Node>();
  for (const node of nodes) collect(node, edges, seen);
  sections.add(section);
  for (const edge of edges) begin(edge);
  for (const node of seen) node.impl.drainBegin?.();
  try {
    for (const edge of edges) await edge.parent.drained?.();
    await allIdle(seen);
    return await run();
  } finally {
    sections.delete(section);
    for (const node of seen) node.impl.drainEnd?.();
    for (const edge of edges) end(edge);
    for (const edge of section.late) endLate(edge);
  }
}

/** A door that is made while a section is under way below it: its requests wait from the first one on. */
export function holdIfDrained(edge: Child): void {
  for (const { nodes, late } of sections) {
    if (!nodes.some((node) => reaches(edge.node, node))) continue;
    edge.parent.drainBegin?.();
    edge.hold();
    late.push(edge);
  }
}

function endLate(edge: Child): void {
  edge.unhold();
  edge.parent.drainEnd?.();
}

/** Everything from `node` up, and the doors of those outside. */
function collect(node: Node, edges: Set<Child>, seen: Set<Node>): void {
  if (seen.has(node)) return;
  seen.add(node);
  for (const edge of node.parents) {
    const { parentNode } = edge.parent;
    if (parentNode === undefined) edges.add(edge);
    else collect(parentNode, edges, seen);
  }
}

/**
 * Resolves with no request under way at any of the nodes. While one is waited for, requests inside the graph (write-back of tables)
 * may begin at another; what must meet none has to be done in the turn in which this resolves.
 */
export async function allIdle(nodes: ReadonlySet<Node>): Promise<void> {
  for (;;) {
    const busy = [...nodes].find((node) => node.underWay > 0);
    if (busy === undefined) return;
    await busy.idle();
  }
}

function begin(edge: Child): void {
  if (edge.parent.drainBegin === undefined) edge.hold();
  else edge.parent.drainBegin();
}

function end(edge: Child): void {
  if (edge.parent.drainBegin === undefined) edge.unhold();
  else edge.parent.drainEnd?.();
}
