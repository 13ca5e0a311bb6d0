/**
 * Colours of layers and states. The picture brings its own background, light or dark as the reader prefers, so it can be read on any
 * page. Layers differ in colour, states in their texture as well: full, hatched, pale with an edge, empty.
 */
import { KINDS, LAYERS } from './cells.ts';
import type { Kind } from './cells.ts';

export const COLOURS: readonly string[] = ['#2f72c9', '#d97b1f', '#2a9461', '#8f56b8', '#c04a4a', '#7f858d'];

export const STYLE = `
.page{fill:#ffffff;stroke:#c8ced6}
.ink{fill:#1b1f24}
.faint{fill:#59616b}
.none{fill:#eceff3}
.mark{fill:#1b1f24}
.part{fill:#dfe4ea;stroke:#59616b}
.free{fill:none;stroke:#c8ced6}
@media (prefers-color-scheme:dark){
.page{fill:#12161c;stroke:#3a424d}
.ink{fill:#e8ebef}
.faint{fill:#a3acb8}
.none{fill:#232a33}
.mark{fill:#e8ebef}
.part{fill:#323b47;stroke:#a3acb8}
.free{fill:none;stroke:#3a424d}
}
${COLOURS.map((colour, layer) => `.d${layer}{fill:${colour}}.c${layer}{fill:url(#h${layer})}.z${layer}{fill:${colour};fill-opacity:.33}`).join('\n')}`;

/** Hatching of compressed data. */
export const PATTERNS = COLOURS.map(
  (colour, layer) =>
    `<pattern id="h${layer}" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
    `<rect width="4" height="4" fill="${colour}"/><rect width="1.6" height="4" fill="#ffffff" fill-opacity=".75"/></pattern>`,
).join('');

const LETTERS = { data: 'd', compressed: 'c', zero: 'z' } as const;

export function classOf(kind: number): string {
  const { state, layer } = KINDS[kind] ?? { state: 'unallocated', layer: 0 };
  return state === 'unallocated' ? 'none' : `${LETTERS[state]}${layer}`;
}

const WORDS: Readonly<Record<Kind['state'], string>> = {
  data: 'data',
  compressed: 'compressed data',
  zero: 'zeroes',
  unallocated: 'unallocated',
};

/** `compressed data, layer 1`. */
export function kindText(kind: number, layers: number): string {
  const { state, layer } = KINDS[kind] ?? { state: 'unallocated', layer: 0 };
  if (state === 'unallocated' || layers < 2) return WORDS[state];
  const isRest = layer === LAYERS - 1 && layers > LAYERS;
  return `${WORDS[state]}, layer ${layer}${isRest ? ' and below' : ''}`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** For the text of XML and HTML; characters that XML has no room for become a mark. */
export function escaped(text: string): string {
  return text
    .replaceAll(/[^\P{C}\u200C\u200D]|\p{Zl}|\p{Zp}/gu, '\uFFFD')
    .replaceAll(/[&<>"]/g, (each) => ENTITIES[each] ?? each);
}

export const percent = (part: number, whole: number): string => {
  const share = whole === 0 ? 0 : (part / whole) * 100;
  return share > 0 && share < 0.1 ? '<0.1 %' : `${Number(share.toPrecision(3))} %`;
};
