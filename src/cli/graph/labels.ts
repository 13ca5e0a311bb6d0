/** Where the labels of lines stand: on their line, and apart from each other and from boxes where there is room. */
import type { Point } from './layout.ts';

/** Centre and extent. */
export interface Label extends Point {
  readonly width: number;
  readonly height: number;
}

export interface LabelledLine {
  readonly line: readonly Point[];
  readonly width: number;
  readonly height: number;
  /** Its child has other parents as well: lines to it come together at their end. */
  readonly joins: boolean;
}

/** Ways along the last piece of a line, the best first: those from one box are apart at their end, those to one box before. */
const EARLY = [0.4, 0.3, 0.5, 0.2, 0.6];
const LATE = [0.6, 0.7, 0.5, 0.8, 0.4];
/** Shares of its width that a label may stand beside the middle: the line still meets it. */
const ASIDE = [0, -0.3, 0.3, -0.45, 0.45];
const GAP = 2;

/** One for each line; undefined for one without a label. */
export function placeLabels(
  lines: readonly LabelledLine[],
  boxes: readonly Label[],
): readonly (Label | undefined)[] {
  const taken = [...boxes];
  return lines.map((given) => {
    if (given.height === 0 || given.line.length < 2) return undefined;
    const [first, ...others] = candidates(given);
    const free = [first, ...others].find(
      (label) => label !== undefined && !taken.some((other) => meet(label, other)),
    );
    const placed = free ?? first;
    if (placed !== undefined) taken.push(placed);
    return placed;
  });
}

function candidates({ line, width, height, joins }: LabelledLine): Label[] {
  const from = line.at(-2) ?? { x: 0, y: 0 };
  const to = line.at(-1) ?? from;
  return ASIDE.flatMap((aside) =>
    (joins ? EARLY : LATE).map((way) => {
      const { x, y } = onCurve(from, to, way);
      return { x: x + aside * width, y, width, height };
    }),
  );
}

/** The curve leaves and arrives upright. */
function onCurve(from: Point, to: Point, way: number): Point {
  const rest = 1 - way;
  const middle = 1.5 * rest * rest * way + 1.5 * rest * way * way + way * way * way;
  const across = 3 * rest * way * way + way * way * way;
  return { x: from.x + (to.x - from.x) * across, y: from.y + (to.y - from.y) * middle };
}

function meet(one: Label, other: Label): boolean {
  return (
    Math.abs(one.x - other.x) < (one.width + other.width) / 2 + GAP &&
    Math.abs(one.y - other.y) < (one.height + other.height) / 2 + GAP
  );
}
