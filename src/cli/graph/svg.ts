/** A graph as a picture. Boxes and labels bring their own background, lines are of a middle grey: for light and dark pages. */
import type { GraphDescription, NodeDescription, RootDescription } from '../../control/describe-graph.ts';
import { placeLabels } from './labels.ts';
import type { Label } from './labels.ts';
import { layOut } from './layout.ts';
import type { Box, Point } from './layout.ts';
import { edgeLines, fillLevel, LEGEND, nodeFacts, rootFacts } from './words.ts';

const FONT = 13;
const SMALL = 11;
const LINE = 18;
const PADDING = 10;
const BAR = 6;
const LABEL_LINE = 13;
const INK = '#1b1f24';
const FAINT = '#57606a';
const STROKE = '#7d8590';
const FILLS: Readonly<Record<string, string>> = {
  root: '#fff1c9',
  filter: '#e6dcfa',
  format: '#d3e5fb',
  protocol: '#d9efd9',
  unknown: '#e7eaee',
};
const FULL = '#3f7cc4';

interface Card extends Box {
  readonly kind: string;
  readonly lines: readonly string[];
  /** 0 to 1. */
  readonly fill: number | undefined;
  /** Of a root. */
  readonly round: boolean;
}

export function renderSvg(graph: GraphDescription): string {
  const cards = [...graph.roots.map(rootCard), ...graph.nodes.map(nodeCard)];
  const layout = layOut(
    cards,
    graph.edges.map(({ parent, child }) => ({ from: parent, to: child })),
  );
  const hasLetters = graph.edges.some(({ uses }) => uses !== undefined);
  const height = layout.height + (hasLetters ? LINE : 0);
  const width = Math.max(layout.width, hasLetters ? textWidth(LEGEND, SMALL) + 2 * PADDING : 0);
  const roots = new Set(graph.roots.map(({ id }) => id));
  const texts = graph.edges.map((edge) => edgeLines(edge, roots.has(edge.parent)));
  const labels = placeLabels(
    layout.lines.map((line, index) => ({
      line,
      ...labelSize(texts[index] ?? []),
      joins: joins(graph, index),
    })),
    cards.map(({ id, width: wide, height: high }) => ({
      ...(layout.places.get(id) ?? { x: 0, y: 0 }),
      ...{ width: wide, height: high },
    })),
  );
  const parts = [
    ...layout.lines.map(curve),
    ...labels.map((label, index) => edgeLabel(label, texts[index] ?? [])),
    ...cards.map((card) => drawCard(card, layout.places.get(card.id) ?? { x: 0, y: 0 })),
    ...(hasLetters ? [legend(layout.height)] : []),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${round(width)}" height="${round(height)}" ` +
      `viewBox="0 0 ${round(width)} ${round(height)}" font-family="sans-serif" font-size="${FONT}">`,
    `<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">` +
      `<path d="M0,0 L8,4 L0,8 z" fill="${STROKE}"/></marker></defs>`,
    ...parts.filter((part) => part !== ''),
    '</svg>',
  ].join('\n');
}

function rootCard(root: RootDescription): Card {
  return card(root.id, 'root', [root.label, rootFacts(root)], undefined);
}

function nodeCard(node: NodeDescription): Card {
  const title = `${node.name} (${node.driver})`;
  const file = node.filename === undefined ? '' : shortened(node.filename);
  return card(node.name, node.kind, [title, file, nodeFacts(node)], fillLevel(node));
}

function card(id: string, kind: string, given: readonly string[], fill: number | undefined): Card {
  const lines = given.filter((line) => line !== '');
  const widest = Math.max(...lines.map((line, index) => textWidth(line, index === 0 ? FONT : SMALL)));
  const bar = fill === undefined ? 0 : BAR + 4;
  return {
    id,
    kind,
    lines,
    fill,
    round: kind === 'root',
    width: Math.ceil(widest) + 2 * PADDING,
    height: lines.length * LINE + PADDING + bar,
  };
}

function drawCard(given: Card, { x, y }: Point): string {
  const { width, height, lines, kind, fill } = given;
  const left = x - width / 2;
  const top = y - height / 2;
  const radius = given.round ? 14 : 5;
  const box =
    `<rect x="${round(left)}" y="${round(top)}" width="${width}" height="${height}" rx="${radius}" ` +
    `fill="${FILLS[kind] ?? FILLS['unknown'] ?? ''}" stroke="${STROKE}"/>`;
  const texts = lines.map((line, index) => {
    const style = index === 0 ? `fill="${INK}" font-weight="bold"` : `fill="${FAINT}" font-size="${SMALL}"`;
    const at = top + PADDING / 2 + LINE * (index + 1) - 5;
    return `<text x="${round(x)}" y="${round(at)}" text-anchor="middle" ${style}>${escaped(line)}</text>`;
  });
  return `<g>${box}${texts.join('')}${fill === undefined ? '' : bar(fill, left, top + height, width)}</g>`;
}

function bar(fill: number, left: number, bottom: number, width: number): string {
  const at = `x="${round(left + PADDING)}" y="${round(bottom - BAR - 5)}" height="${BAR}" rx="3"`;
  const whole = width - 2 * PADDING;
  const done = fill === 0 ? 0 : Math.max(3, whole * fill);
  return `<rect ${at} width="${round(whole)}" fill="#ffffff" stroke="${STROKE}" stroke-width="0.5"/><rect ${at} width="${round(done)}" fill="${FULL}"/>`;
}

/** Leaves downwards, arrives from above, in between through every bend. */
function curve(line: readonly Point[]): string {
  const [first, ...rest] = line;
  if (first === undefined) return '';
  let path = `M${round(first.x)},${round(first.y)}`;
  let from = first;
  for (const to of rest) {
    const half = (to.y - from.y) / 2;
    path += ` C${round(from.x)},${round(from.y + half)} ${round(to.x)},${round(to.y - half)} ${round(to.x)},${round(to.y)}`;
    from = to;
  }
  return `<path d="${path}" fill="none" stroke="${STROKE}" stroke-width="1.3" marker-end="url(#end)"/>`;
}

/** Whether the child has other parents as well. */
function joins({ edges }: GraphDescription, index: number): boolean {
  return edges.filter(({ child }) => child === edges[index]?.child).length > 1;
}

function labelSize(lines: readonly string[]): { width: number; height: number } {
  if (lines.length === 0) return { width: 0, height: 0 };
  const width = Math.max(...lines.map((text) => textWidth(text, SMALL))) + 8;
  return { width, height: lines.length * LABEL_LINE + 3 };
}

function edgeLabel(label: Label | undefined, lines: readonly string[]): string {
  if (label === undefined) return '';
  const { x, y, width, height } = label;
  const texts = lines.map((text, index) => {
    const at = y - height / 2 + LABEL_LINE * (index + 1) - 1;
    const color = index === 0 ? INK : FAINT;
    return `<text x="${round(x)}" y="${round(at)}" text-anchor="middle" font-size="${SMALL}" fill="${color}">${escaped(text)}</text>`;
  });
  return (
    `<rect x="${round(x - width / 2)}" y="${round(y - height / 2)}" width="${round(width)}" height="${height}" rx="4" ` +
    `fill="#f6f8fa" stroke="${STROKE}" stroke-width="0.5"/>${texts.join('')}`
  );
}

function legend(bottom: number): string {
  const width = textWidth(LEGEND, SMALL) + 8;
  const y = round(bottom - 4);
  return (
    `<rect x="${PADDING}" y="${y}" width="${round(width)}" height="16" rx="4" fill="#f6f8fa"/>` +
    `<text x="${PADDING + 4}" y="${round(bottom + 8)}" font-size="${SMALL}" fill="${FAINT}">${LEGEND}</text>`
  );
}

/** Sans-serif letters are on average a little more than half as wide as high; a little room is left for wider fonts. */
const textWidth = (text: string, size: number): number => text.length * size * 0.58 + 2;

function shortened(filename: string): string {
  return filename.length <= 44 ? filename : `...${filename.slice(-41)}`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string): string => text.replaceAll(/[&<>"]/g, (each) => ENTITIES[each] ?? each);
const round = (value: number): number => Math.round(value * 10) / 10;
