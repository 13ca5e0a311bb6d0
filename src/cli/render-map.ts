import type { MapEntry } from './map-entries.ts';

export const MAP_HEADING = row(['Offset', 'Length', 'Mapped to', 'File']);

/** A range as people read it. Compressed and encrypted data has no place that could be named. */
export function renderMapRow(entry: MapEntry): string {
  const place =
    entry.offset === undefined ? (entry.compressed ? 'compressed' : 'encoded') : hex(entry.offset);
  return row([hex(entry.start), hex(entry.length), place, entry.filename ?? '']);
}

/** A range as one JSON object on one line, QEMU's keys in QEMU's order. */
export function renderMapEntry(entry: MapEntry): string {
  const { start, length, depth, present, zero, data, compressed, offset } = entry;
  const pairs = Object.entries({ start, length, depth, present, zero, data, compressed, offset });
  const texts = pairs
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `"${key}": ${String(value)}`);
  return `{ ${texts.join(', ')}}`;
}

function row([first = '', second = '', third = '', last = '']: readonly string[]): string {
  return `${first.padEnd(15)} ${second.padEnd(15)} ${third.padEnd(15)} ${last}`.trimEnd();
}

const hex = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`);
