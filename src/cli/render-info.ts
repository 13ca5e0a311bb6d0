import { formatSize } from '../util/sizes.ts';
import type { ImageDescription } from '../control/describe-node.ts';
import { renderTable } from './render.ts';

/** An image as people read it, with the labels of `qemu-img info`. */
export function renderInfo(image: ImageDescription): string {
  const text = (key: string): string | undefined => scalar(image[key]);
  const size = Number(image['virtual-size']);
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['image', text('filename')],
    ['file format', text('format')],
    ['virtual size', `${formatSize(size)} (${size} bytes)`],
    ['disk size', image['actual-size'] === undefined ? undefined : formatSize(Number(image['actual-size']))],
    ['encrypted', image['encrypted'] === true ? 'yes' : undefined],
    ['cluster_size', text('cluster-size')],
    ['cleanly shut down', image['dirty-flag'] === true ? 'no' : undefined],
    ['backing file', backing(image)],
    ['backing file format', text('backing-filename-format')],
  ];
  const lines = rows
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `${label}: ${value ?? ''}`);
  return [
    ...lines,
    ...partitionTable(image['partition-table']),
    ...snapshots(image['snapshots']),
    ...specific(image['format-specific']),
  ].join('\n');
}

function scalar(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? `${value}`
    : undefined;
}

function backing(image: ImageDescription): string | undefined {
  const name = scalar(image['backing-filename']);
  const full = scalar(image['full-backing-filename']);
  if (name === undefined) return full;
  return full === name || full === undefined ? name : `${name} (actual path: ${full})`;
}

function partitionTable(table: unknown): string[] {
  if (typeof table !== 'object' || table === null || !('partitions' in table)) return [];
  if (!Array.isArray(table.partitions) || !('scheme' in table)) return [];
  const rows = table.partitions.map((item: Readonly<Record<string, unknown>>) => [
    String(item['number']),
    String(item['offset']),
    formatSize(Number(item['length'])),
    printable(String(item['type-name'])),
    printable(String(item['name'])),
  ]);
  return [
    `Partition table (${String(table.scheme)}):`,
    renderTable(['NUMBER', 'OFFSET', 'SIZE', 'TYPE', 'NAME'], rows),
  ];
}

function snapshots(list: unknown): string[] {
  return Array.isArray(list) ? ['Snapshot list:', renderSnapshots(list)] : [];
}

/** Snapshots inside an image as people read them. */
export function renderSnapshots(list: readonly ImageDescription[]): string {
  const rows = list.map((item) => [
    printable(String(item['id'])),
    printable(String(item['name'])),
    formatSize(Number(item['vm-state-size'])),
    new Date(Number(item['date-sec']) * 1000).toISOString(),
  ]);
  return renderTable(['ID', 'TAG', 'VM SIZE', 'DATE'], rows);
}

/** Names come from images: nothing in them may talk to the terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}

function specific(given: unknown): string[] {
  if (typeof given !== 'object' || given === null || !('data' in given)) return [];
  return ['Format specific information:', ...entries(given.data, '    ')];
}

function entries(value: unknown, indent: string): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]: [string, unknown]) => {
    const label = `${indent}${Array.isArray(value) ? `[${key}]` : key.replaceAll('-', ' ')}:`;
    if (typeof item !== 'object' || item === null) return [`${label} ${String(item)}`];
    return [label, ...entries(item, `${indent}    `)];
  });
}
