/** Rows as lines of a given width. */
import { formatTime } from '../stats/percentile.ts';
import { formatSize } from '../../util/sizes.ts';
import type { Row } from './rows.ts';

export interface Line {
  readonly text: string;
  readonly kind: 'heading' | 'group' | 'busy' | 'idle' | 'problem' | 'note';
}

interface Column {
  readonly heading: string;
  readonly width: number;
  readonly cell: (row: Row) => string;
}

const COLUMNS: readonly Column[] = [
  { heading: 'READ/s', width: 6, cell: ({ reads }) => formatCount(reads) },
  { heading: 'MiB/s', width: 6, cell: ({ readBytes }) => formatRate(readBytes) },
  { heading: 'WRITE/s', width: 7, cell: ({ writes }) => formatCount(writes) },
  { heading: 'MiB/s', width: 6, cell: ({ writtenBytes }) => formatRate(writtenBytes) },
  { heading: 'P50', width: 7, cell: ({ p50 }) => formatTime(p50) },
  { heading: 'P99', width: 7, cell: ({ p99 }) => formatTime(p99) },
  { heading: 'HIT%', width: 4, cell: ({ hits }) => (hits === undefined ? '-' : `${Math.floor(hits * 100)}`) },
  { heading: 'WAIT', width: 5, cell: ({ inFlight }) => formatCount(inFlight) },
  {
    heading: 'ALLOC',
    width: 8,
    cell: ({ allocated }) => (allocated === undefined ? '-' : formatSize(allocated)),
  },
];
const TAKEN = COLUMNS.reduce((sum, { width }) => sum + width + 1, 0);
const NAME_LEAST = 8;

/** The names have what is left of `width`; what does not fit in any case is cut at the right. */
export function tableLines(groups: readonly RowGroup[], width: number): Line[] {
  const room = Math.max(NAME_LEAST, width - TAKEN);
  const longest = Math.max(NAME_LEAST, ...groups.flatMap(({ rows }) => rows.map((row) => label(row).length)));
  const names = Math.min(room, longest);
  const lines: Line[] = [
    {
      text: line(
        'NAME',
        COLUMNS.map(({ heading }) => heading),
        names,
      ),
      kind: 'heading',
    },
  ];
  const hasTitles = groups.length > 1;
  for (const { title, rows } of groups) {
    if (hasTitles) lines.push({ text: printable(title), kind: 'group' });
    for (const row of rows) {
      const isBusy = row.reads + row.writes + row.inFlight > 0;
      const text = line(
        label(row),
        COLUMNS.map(({ cell }) => cell(row)),
        names,
      );
      lines.push({ text, kind: isBusy ? 'busy' : 'idle' });
    }
  }
  return [...lines, ...groups.flatMap(({ rows }) => rows.flatMap(remarks))].map(({ text, kind }) => ({
    text: text.slice(0, width).trimEnd(),
    kind,
  }));
}

/** What a server shows. */
export interface RowGroup {
  readonly title: string;
  readonly rows: readonly Row[];
}

function remarks(row: Row): Line[] {
  const said: Line[] = [];
  const name = printable(row.name);
  if (row.errors > 0)
    said.push({ text: `! ${name}: ${row.errors} ${row.errors === 1 ? 'error' : 'errors'}`, kind: 'problem' });
  if (row.note !== '') said.push({ text: `${name}: ${row.note}`, kind: 'note' });
  return said;
}

function line(name: string, cells: readonly string[], names: number): string {
  const columns = cells.map((cell, index) => cell.padStart(COLUMNS[index]?.width ?? 0));
  return [cut(name, names).padEnd(names), ...columns].join(' ');
}

/** Nodes stand below exports. */
const label = (row: Row): string => `${row.kind === 'node' ? '  ' : ''}${printable(row.name)}`;

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

/** Names come from users and images: nothing in them may steer the terminal. */
const printable = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');

/** `0`, `0.4`, `9999`, `12.3k`, `4.56M`: five letters at most. */
function formatCount(value: number): string {
  if (value === 0) return '0';
  if (value < 1) return value.toFixed(1);
  if (value < 10_000) return String(Math.round(value));
  let rest = value;
  let unit = 0;
  for (; rest >= 999.5 && unit < SUFFIXES.length - 1; unit += 1) rest /= 1000;
  return `${Number(rest.toPrecision(3))}${SUFFIXES[unit] ?? ''}`;
}

const SUFFIXES = ['', 'k', 'M', 'G', 'T', 'P'];

function formatRate(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  if (mebibytes === 0) return '0';
  return mebibytes < 0.01
    ? '<0.01'
    : mebibytes < 100
      ? String(Number(mebibytes.toPrecision(2)))
      : formatCount(mebibytes);
}
