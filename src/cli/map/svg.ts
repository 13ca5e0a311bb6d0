/** A disk as a picture: rows of cells from its start to its end, then what the colours mean, partitions and snapshots. */
import { formatSize } from '../../util/sizes.ts';
import { COLUMNS } from './cells.ts';
import type { DiskPicture } from './collect.ts';
import { classOf, escaped, kindText, PATTERNS, percent, STYLE } from './style.ts';

const CELL = 13;
const ROW = 12;
/** Of a row, the rest is a gap. */
const HEIGHT = 10;
const MARGIN = 20;
const LABELS = 76;
const LINE = 19;
const NOTE = 15;
const FONT = 13;
const SMALL = 11;
const WIDTH = LABELS + COLUMNS * CELL + 2 * MARGIN;
const LEFT = MARGIN + LABELS;
const BAR = COLUMNS * CELL;
/** Rows from one label to the next. */
const LABEL_EVERY = 4;
const MOST_PARTITIONS = 128;
/** Heights of the parts, from the top. */
const TITLE = 62;
const PARTITIONS = 44;

/** A piece of the picture and how high it is. */
interface Piece {
  readonly text: string;
  readonly height: number;
}

export function renderMapSvg(picture: DiskPicture): string {
  const pieces: Piece[] = [];
  let top = MARGIN;
  for (const draw of [titlePiece, partitionPiece, gridPiece, legendPiece, snapshotPiece]) {
    const piece = draw(picture, top);
    pieces.push(piece);
    top += piece.height;
  }
  const height = top + MARGIN / 2;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" ` +
      `font-family="sans-serif" font-size="${FONT}" role="img" aria-label="${escaped(`Map of ${picture.title}`)}">`,
    `<style>${STYLE}</style><defs>${PATTERNS}</defs>`,
    `<rect class="page" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    ...pieces.map(({ text }) => text).filter((text) => text !== ''),
    '</svg>',
    '',
  ].join('\n');
}

function titlePiece({ title, size, allocated, layers, cells }: DiskPicture, top: number): Piece {
  const facts = [
    formatSize(size),
    ...(layers[0] === undefined ? [] : [layers[0].driver]),
    ...(allocated === undefined ? [] : [`takes ${formatSize(allocated)}`]),
    `one cell is ${formatSize(cells.cellSize)}`,
    `${cells.ranges} ranges`,
  ];
  const text =
    `<text class="ink" x="${MARGIN}" y="${top + 14}" font-size="17" font-weight="bold">${escaped(cut(title, 80))}</text>` +
    `<text class="faint" x="${MARGIN}" y="${top + 36}">${escaped(facts.join('  ·  '))}</text>`;
  return { text, height: TITLE - 10 };
}

/** The whole disk as one bar. */
function partitionPiece({ partitions, scheme, size }: DiskPicture, top: number): Piece {
  const shown = partitions.filter(({ extended }) => !extended).slice(0, MOST_PARTITIONS);
  if (shown.length === 0 || size === 0) return { text: '', height: 0 };
  const boxes = shown.map((partition) => {
    const { number, offset, length, typeName, name } = partition;
    const x = LEFT + (offset / size) * BAR;
    const width = Math.max(2, (length / size) * BAR);
    const words = `${number}${name === '' ? '' : ` ${name}`} · ${formatSize(length)}`;
    const fits = [words, String(number)].find((each) => each.length * 6.6 + 6 < width);
    const label =
      fits === undefined
        ? ''
        : `<text class="ink" x="${round(x + width / 2)}" y="${top + 17}" font-size="${SMALL}" text-anchor="middle">${escaped(fits)}</text>`;
    const told = `partition ${words}, ${typeName}, from ${formatSize(offset)}`;
    return `<g><title>${escaped(told)}</title><rect class="part" x="${round(x)}" y="${top + 4}" width="${round(width)}" height="19"/>${label}</g>`;
  });
  const frame = `<rect class="free" x="${LEFT}" y="${top + 4}" width="${BAR}" height="19"/>`;
  const label = `<text class="faint" x="${MARGIN}" y="${top + 17}" font-size="${SMALL}">${escaped(scheme ?? '')}</text>`;
  return { text: [frame, label, ...boxes].join('\n'), height: PARTITIONS - 10 };
}

function gridPiece(picture: DiskPicture, top: number): Piece {
  const { cells } = picture;
  const parts: string[] = [];
  for (let row = 0; row < cells.rows; row += 1) {
    const y = top + row * ROW;
    if (row % LABEL_EVERY === 0) {
      const at = formatSize(row * COLUMNS * cells.cellSize);
      parts.push(
        `<text class="faint" x="${LEFT - 8}" y="${y + HEIGHT - 1}" font-size="${SMALL}" text-anchor="end">${at}</text>`,
      );
    }
    parts.push(...rowRuns(picture, row, y));
  }
  parts.push(...partitionMarks(picture, top));
  return { text: parts.join('\n'), height: cells.rows * ROW + 12 };
}

/** Neighbours that are all of one kind are one box; a cell of several kinds is divided, data at its foot. */
function rowRuns(picture: DiskPicture, row: number, y: number): string[] {
  const { cells } = picture;
  const end = Math.min(cells.count, (row + 1) * COLUMNS);
  const parts: string[] = [];
  for (let cell = row * COLUMNS; cell < end;) {
    const shares = cells.shares(cell);
    let next = cell + 1;
    const only = shares.length === 1 ? shares[0]?.kind : undefined;
    while (only !== undefined && next < end && isAll(picture, next, only)) next += 1;
    const x = LEFT + (cell % COLUMNS) * CELL;
    parts.push(box(picture, { cell, next, x, y }, shares));
    cell = next;
  }
  return parts;
}

function isAll({ cells }: DiskPicture, cell: number, kind: number): boolean {
  const shares = cells.shares(cell);
  return shares.length === 1 && shares[0]?.kind === kind;
}

interface Run {
  readonly cell: number;
  readonly next: number;
  readonly x: number;
  readonly y: number;
}

function box(
  { cells, layers, size }: DiskPicture,
  { cell, next, x, y }: Run,
  shares: readonly { readonly kind: number; readonly bytes: number }[],
): string {
  const width = (next - cell) * CELL - 1;
  const bytes = shares.reduce((sum, share) => sum + share.bytes, 0);
  const from = cell * cells.cellSize;
  const to = Math.min(size, next * cells.cellSize);
  const slicesOf = shares.toSorted((one, other) => one.kind - other.kind);
  const words = shares.map((share) => {
    const name = kindText(share.kind, layers.length);
    return shares.length === 1 ? name : `${name} ${percent(share.bytes, bytes)}`;
  });
  const title = `<title>${escaped(`${formatSize(from)} to ${formatSize(to)}: ${words.join('; ')}`)}</title>`;
  let foot = y + HEIGHT;
  const slices = heights(slicesOf.map((share) => share.bytes / bytes)).map((height, index) => {
    foot -= height;
    return `<rect class="${classOf(slicesOf[index]?.kind ?? 0)}" x="${x}" y="${round(foot)}" width="${width}" height="${round(height)}"/>`;
  });
  return `<g>${title}${slices.join('')}</g>`;
}

/** Whatever is there at all can be seen; the largest gives way. */
function heights(shares: readonly number[]): number[] {
  const least = Math.min(2.5, HEIGHT / Math.max(1, shares.length));
  const wanted = shares.map((share) => Math.max(least, share * HEIGHT));
  const largest = wanted.indexOf(Math.max(...wanted));
  const others = wanted.reduce((sum, height, index) => (index === largest ? sum : sum + height), 0);
  return wanted.map((height, index) => (index === largest ? Math.max(least, HEIGHT - others) : height));
}

/** Where a partition begins. */
function partitionMarks({ cells, partitions }: DiskPicture, top: number): string[] {
  return partitions
    .filter(({ extended }) => !extended)
    .slice(0, MOST_PARTITIONS)
    .map(({ offset, number }) => {
      const cell = Math.floor(offset / cells.cellSize);
      const x = LEFT + (cell % COLUMNS) * CELL - 1;
      const y = top + Math.floor(cell / COLUMNS) * ROW;
      return `<g><title>${escaped(`partition ${number} begins`)}</title><rect class="mark" x="${x - 1}" y="${y - 1}" width="2.5" height="${HEIGHT + 2}"/></g>`;
    });
}

function legendPiece(picture: DiskPicture, top: number): Piece {
  const { layers, size } = picture;
  const rows = legendRows(picture).map(({ kind, name, bytes }, index) => {
    const y = top + index * LINE;
    const swatch = `<rect class="${classOf(kind)}" x="${LEFT}" y="${y + 1}" width="24" height="13"/>`;
    return (
      `${swatch}<text class="ink" x="${LEFT + 34}" y="${y + 12}">${escaped(cut(name, 70))}</text>` +
      `<text class="faint" x="${LEFT + BAR - 90}" y="${y + 12}" text-anchor="end">${formatSize(bytes)}</text>` +
      `<text class="faint" x="${LEFT + BAR}" y="${y + 12}" text-anchor="end">${escaped(percent(bytes, size))}</text>`
    );
  });
  const notes = [
    'A cell of several kinds is divided by their shares; what is little is drawn larger than it is.',
    ...(picture.partitions.length > 0 ? ['A stroke is where a partition begins.'] : []),
    ...(layers.length > 1 ? ['Layer 0 is the disk itself, the next ones are its backing files.'] : []),
  ].map((note, index) => {
    const y = top + rows.length * LINE + 13 + index * NOTE;
    return `<text class="faint" x="${LEFT}" y="${y}" font-size="${SMALL}">${escaped(note)}</text>`;
  });
  return { text: [...rows, ...notes].join('\n'), height: rows.length * LINE + notes.length * NOTE + 16 };
}

/** The kinds that there are, in their order, with the name of the layer's file. */
export function legendRows({ cells, layers }: DiskPicture): { kind: number; name: string; bytes: number }[] {
  return cells
    .totals()
    .map((bytes, kind) => ({ kind, name: nameOf(kind, layers), bytes }))
    .filter(({ bytes }) => bytes > 0);
}

function nameOf(kind: number, layers: DiskPicture['layers']): string {
  const words = kindText(kind, layers.length);
  const layer = /layer (\d+)$/.exec(words)?.[1];
  const file = layer === undefined ? undefined : layers[Number(layer)];
  return file === undefined ? words : `${words}: ${file.name} (${file.driver})`;
}

/** Bars of what each snapshot has, whoever else has it too. */
function snapshotPiece({ snapshots, moreSnapshots }: DiskPicture, top: number): Piece {
  if (snapshots.length === 0) return { text: '', height: 0 };
  const most = Math.max(1, ...snapshots.map(({ allocated }) => allocated));
  const head = `<text class="ink" x="${LEFT}" y="${top + 13}" font-weight="bold">Snapshots in the image</text>`;
  const rows = snapshots.map(({ id, name, date, allocated }, index) => {
    const y = top + (index + 1) * LINE + 4;
    const width = round((allocated / most) * 260);
    return (
      `<text class="ink" x="${LEFT}" y="${y + 11}">${escaped(cut(`${id}  ${name}`, 38))}</text>` +
      `<text class="faint" x="${LEFT + 270}" y="${y + 11}" font-size="${SMALL}">${minuteOf(date)}</text>` +
      `<rect class="none" x="${LEFT + 400}" y="${y + 2}" width="260" height="10"/>` +
      `<rect class="d0" x="${LEFT + 400}" y="${y + 2}" width="${width}" height="10"/>` +
      `<text class="faint" x="${LEFT + BAR}" y="${y + 11}" text-anchor="end">${formatSize(allocated)}</text>`
    );
  });
  const more =
    moreSnapshots === 0
      ? ''
      : `<text class="faint" x="${LEFT}" y="${top + (rows.length + 1) * LINE + 15}" font-size="${SMALL}">and ${moreSnapshots} more</text>`;
  const lines = rows.length + 1 + (moreSnapshots === 0 ? 0 : 1);
  return { text: [head, ...rows, more].join('\n'), height: lines * LINE + 10 };
}

export const minuteOf = (date: Date): string =>
  Number.isNaN(date.getTime()) ? '' : date.toISOString().slice(0, 16).replace('T', ' ');

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

const round = (value: number): number => Math.round(value * 10) / 10;
