import { formatSize } from '../../src/util/sizes.ts';
import { isSmall, median } from './measure.ts';
import type { RowResult } from './measure.ts';

const HEADINGS = [
  'workload',
  'blockfuse',
  'other',
  'ratio',
  'target',
  '',
  'spread',
  'ready',
  'idle CPU',
  'memory',
] as const;
/** What the whole has to keep to, beside the ratios. */
const LIMITS = { readyMs: 500, idlePercent: 0, residentBytes: 150 * 1024 * 1024 } as const;

export const heading = (): string => line(HEADINGS);

/** One line of the table. Spread: lowest to highest of our rounds over their median. */
export function renderRow(result: RowResult): string {
  const { row, ours, theirs, ratio } = result;
  const unit = (value: number): string =>
    isSmall(row) ? `${Math.round(value)}/s` : `${formatSize(value)}/s`;
  const middle = median(ours);
  const [low, high] = [Math.min(...ours) / middle, Math.max(...ours) / middle];
  return line([
    row.name,
    unit(middle),
    unit(median(theirs)),
    ratio.toFixed(2),
    `>= ${row.target}`,
    ratio >= row.target ? 'ok' : 'MISSED',
    `${low.toFixed(2)}-${high.toFixed(2)}`,
    mark(`${Math.round(result.readyMs)} ms`, result.readyMs > LIMITS.readyMs),
    mark(`${result.idlePercent.toFixed(0)} %`, result.idlePercent > LIMITS.idlePercent),
    mark(formatSize(result.residentBytes), result.residentBytes > LIMITS.residentBytes),
  ]);
}

export function toJson(results: readonly RowResult[]): string {
  const rows = results.map(({ row, ours, theirs, ...rest }) => ({
    workload: row.name,
    against: row.against,
    unit: isSmall(row) ? 'requests/s' : 'bytes/s',
    target: row.target,
    reached: rest.ratio >= row.target,
    blockfuse: median(ours),
    other: median(theirs),
    rounds: { blockfuse: ours, other: theirs },
    ...rest,
  }));
  return `${JSON.stringify(rows, undefined, 2)}\n`;
}

const mark = (text: string, isBad: boolean): string => (isBad ? `${text} !` : text);

const WIDTHS = [33, 11, 11, 6, 7, 6, 10, 8, 8, 9];

function line(cells: readonly string[]): string {
  return cells
    .map((cell, index) => (index === 0 ? cell.padEnd(WIDTHS[0] ?? 0) : cell.padStart(WIDTHS[index] ?? 0)))
    .join(' ')
    .trimEnd();
}
