import type { GraphDescription } from '../../control/describe-graph.ts';
import { edgeLines, nodeFacts, rootFacts } from './words.ts';

/** The graph for Graphviz. */
export function renderDot(graph: GraphDescription): string {
  const lines = ['digraph blockfuse {', '  node [shape=box, style=rounded];'];
  for (const root of graph.roots)
    lines.push(`  ${quote(root.id)} [shape=ellipse, label=${quote(label(root.label, rootFacts(root)))}];`);
  for (const node of graph.nodes) {
    const title = `${node.name} (${node.driver})`;
    lines.push(`  ${quote(node.name)} [label=${quote(label(title, node.filename ?? '', nodeFacts(node)))}];`);
  }
  const roots = new Set(graph.roots.map(({ id }) => id));
  for (const edge of graph.edges) {
    const text = edgeLines(edge, roots.has(edge.parent)).join('\n');
    lines.push(`  ${quote(edge.parent)} -> ${quote(edge.child)} [label=${quote(text)}];`);
  }
  return [...lines, '}'].join('\n');
}

function label(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n');
}

function quote(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
}
