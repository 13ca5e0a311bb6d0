import type { EdgeDescription, GraphDescription } from '../../control/describe-graph.ts';
import { LEGEND, nodeFacts, roleText, rootFacts, sharedLetters, usedLetters } from './words.ts';

/** The graph as text: roots, and below each what it stands on. A node is described where it comes first. */
export function renderTree(graph: GraphDescription): string {
  const lines: string[] = [];
  const seen = new Set<string>();
  for (const root of graph.roots) {
    lines.push(withFacts(root.label, rootFacts(root)));
    below(graph, root.id, '', { lines, seen });
  }
  const held = new Set(graph.edges.map(({ child }) => child));
  for (const { name } of graph.nodes) {
    if (held.has(name)) continue;
    lines.push(describe(graph, name, seen));
    below(graph, name, '', { lines, seen });
  }
  if (lines.length === 0) return 'nothing is open';
  if (graph.edges.some(({ uses }) => uses !== undefined)) lines.push('', `uses/shares: ${LEGEND}`);
  return lines.join('\n');
}

interface Output {
  readonly lines: string[];
  readonly seen: Set<string>;
}

function below(graph: GraphDescription, parent: string, indent: string, { lines, seen }: Output): void {
  const edges = graph.edges.filter((edge) => edge.parent === parent);
  for (const [index, edge] of edges.entries()) {
    const isLast = index === edges.length - 1;
    const isNew = !seen.has(edge.child);
    lines.push(`${indent}${isLast ? '└─' : '├─'} ${edgeText(edge)}: ${describe(graph, edge.child, seen)}`);
    if (isNew) below(graph, edge.child, `${indent}${isLast ? '   ' : '│  '}`, { lines, seen });
  }
}

function edgeText(edge: EdgeDescription): string {
  const used = usedLetters(edge);
  const roles = roleText(edge);
  const name = roles === '' || roles === 'primary' ? edge.name : `${edge.name} (${roles})`;
  return used === '' ? name : `${name} [${used}/${sharedLetters(edge)}]`;
}

function describe(graph: GraphDescription, name: string, seen: Set<string>): string {
  const node = graph.nodes.find((each) => each.name === name);
  if (node === undefined) return `${name} (not described)`;
  if (seen.has(name)) return `${name} (see above)`;
  seen.add(name);
  const file = node.filename === undefined ? '' : ` "${node.filename}"`;
  return withFacts(`${name} (${node.driver}${file})`, nodeFacts(node));
}

const withFacts = (text: string, facts: string): string => (facts === '' ? text : `${text}: ${facts}`);
