/** The picture as a page of its own, with its numbers as tables. Nothing of it comes from elsewhere, nothing runs. */
import { formatSize } from '../../util/sizes.ts';
import type { DiskPicture } from './collect.ts';
import { escaped, percent } from './style.ts';
import { legendRows, minuteOf, renderMapSvg } from './svg.ts';

const STYLE = `
:root{color-scheme:light dark}
body{font:14px/1.5 sans-serif;margin:2em auto;max-width:72em;padding:0 1em;background:#f6f8fa;color:#1b1f24}
svg{max-width:100%;height:auto}
table{border-collapse:collapse;margin:1em 0}
caption{text-align:left;font-weight:bold;padding:.4em 0}
th,td{padding:.25em .8em;text-align:left;border-bottom:1px solid #c8ced6}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
@media (prefers-color-scheme:dark){
body{background:#0b0e12;color:#e8ebef}
th,td{border-color:#3a424d}
}`;

export function renderMapHtml(picture: DiskPicture): string {
  const { title, size, layers, partitions, snapshots, moreSnapshots } = picture;
  const tables = [
    table(
      'What is where',
      ['', '#Bytes', '#Size', '#Share'],
      legendRows(picture).map(({ name, bytes }) => [
        name,
        String(bytes),
        formatSize(bytes),
        percent(bytes, size),
      ]),
    ),
    table(
      'Layers',
      ['#Layer', 'File', 'Format', '#Size', '#Takes'],
      layers.map((layer, index) => [
        String(index),
        layer.name,
        layer.driver,
        formatSize(layer.size),
        layer.allocated === undefined ? '' : formatSize(layer.allocated),
      ]),
    ),
    table(
      'Partitions',
      ['#Number', 'Name', 'Type', '#Begins at', '#Size'],
      partitions.map(({ number, name, typeName, offset, length }) => [
        String(number),
        name,
        typeName,
        String(offset),
        formatSize(length),
      ]),
    ),
    table(
      `Snapshots in the image${moreSnapshots === 0 ? '' : ` (and ${moreSnapshots} more)`}`,
      ['ID', 'Name', 'Taken (UTC)', '#Size of the disk', '#Allocated'],
      snapshots.map(({ id, name, date, diskSize, allocated }) => [
        id,
        name,
        minuteOf(date),
        formatSize(diskSize),
        formatSize(allocated),
      ]),
    ),
  ];
  return [
    '<!DOCTYPE html>',
    `<html lang="en"><head><meta charset="utf-8"><title>${escaped(`Map of ${title}`)}</title>`,
    '<meta name="viewport" content="width=device-width">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<style>${STYLE}</style></head><body>`,
    renderMapSvg(picture),
    ...tables.filter((each) => each !== ''),
    '</body></html>',
    '',
  ].join('\n');
}

/** A heading that begins with # is of numbers. */
function table(caption: string, headings: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const kind = (index: number): string => (headings[index]?.startsWith('#') === true ? ' class="n"' : '');
  const head = headings
    .map((text, index) => `<th${kind(index)}>${escaped(text.replace(/^#/, ''))}</th>`)
    .join('');
  const body = rows.map(
    (cells) => `<tr>${cells.map((text, index) => `<td${kind(index)}>${escaped(text)}</td>`).join('')}</tr>`,
  );
  return `<table><caption>${escaped(caption)}</caption><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table>`;
}
