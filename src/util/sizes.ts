const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  p: 2 ** 50,
  e: 2 ** 60,
};

/** Bytes of a text such as `65536`, `64k`, `1.5G`; undefined when it is not a size or not a whole number of bytes. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?|0x[0-9a-f]+)\s*([bkmgtpe]?)(?:i?b)?$/i.exec(text.trim());
  if (match?.[1] === undefined) return undefined;
  const bytes = Number(match[1]) * (SUFFIXES[(match[2] ?? '').toLowerCase()] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A size for people: three significant digits and a binary unit, as qemu-img prints it (`1.5 GiB`). */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number(value.toPrecision(3))} ${UNITS[unit] ?? ''}`;
}

export const alignDown = (value: number, unit: number): number => value - (value % unit);
export const alignUp = (value: number, unit: number): number => alignDown(value + unit - 1, unit);
export const isPowerOfTwo = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));
