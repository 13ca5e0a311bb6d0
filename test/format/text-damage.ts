/** Damage done to text that describes an image: to its lines, numbers and names, as a stranger who knows the format would. */
import type { Random } from '../helpers/random.ts';

const NUMBERS = [
  '-1',
  '0',
  '1',
  '0x10',
  '1e30',
  '8.5',
  '+8',
  ' 8',
  '4294967296',
  '9007199254740993',
  '18446744073709551616',
  '9'.repeat(400),
  '',
  'NaN',
];
const NAMES = [
  '..',
  '../outside.bin',
  '../../outside.bin',
  '/etc/passwd',
  '/dev/zero',
  '/dev/stdin',
  '/proc/self/mem',
  'nbd://localhost:1/x',
  'http://localhost:1/x',
  'json:{"driver":"null-co"}',
  'fat:/etc',
  '',
  '.',
  '\0',
  'a\0b',
  'x'.repeat(5000),
  'C:\\a\\b.bin',
  '..\\outside.bin',
  '%00',
  '&#x2e;&#x2e;/outside.bin',
];

/** Characters of a text that is damaged further: above what any of the formats takes. */
const MOST = 400_000;

type Damage = (text: string, random: Random) => string;

const pickLine = (lines: readonly string[], random: Random): number => random.below(lines.length);

/** Something is done to one line. */
const onLine =
  (change: (line: string, random: Random, lines: readonly string[]) => string[]): Damage =>
  (text, random) => {
    const lines = text.split('\n');
    const at = pickLine(lines, random);
    lines.splice(at, 1, ...change(lines[at] ?? '', random, lines));
    return lines.join('\n');
  };

/** One of all that matches is replaced. */
const oneOf =
  (
    pattern: RegExp,
    values: readonly string[],
    around: (value: string) => string = (value) => value,
  ): Damage =>
  (text, random) => {
    const found = [...text.matchAll(pattern)];
    if (found.length === 0) return text;
    const { index, 0: old } = random.pick(found);
    return text.slice(0, index) + around(random.pick(values)) + text.slice(index + old.length);
  };

const DAMAGES: readonly Damage[] = [
  onLine(() => []),
  onLine((line) => [line, line]),
  onLine((line, random, lines) => [lines[pickLine(lines, random)] ?? '', line]),
  onLine((line) => [line + 'z'.repeat(100_000)]),
  onLine((line) => [' '.repeat(100_000) + line]),
  onLine((line) => Array<string>(Math.min(2000, Math.ceil(MOST / (line.length + 1)))).fill(line)),
  onLine((line) => [line.toUpperCase()]),
  onLine((line) => [`${line.slice(0, line.length / 2)}\0${line.slice(line.length / 2)}`]),
  onLine((line) => [line.slice(0, line.length / 2)]),
  onLine((line) => [`${line}\r`]),
  oneOf(/\d+/g, NUMBERS),
  oneOf(/\d+/g, NUMBERS),
  oneOf(/"[^"\n]*"/g, NAMES, (value) => `"${value}"`),
  oneOf(/"[^"\n]*"/g, NAMES, (value) => `"${value}"`),
  oneOf(/(?<=>)[^<>\n]+(?=<)/g, [...NAMES, ...NUMBERS]),
  oneOf(/(?<=>)[^<>\n]+(?=<)/g, [...NAMES, ...NUMBERS]),
  oneOf(/[<>="/]/g, ['', '<', '>', '=', '"', '<![CDATA[', '<!--', '&lt;', '<!DOCTYPE x [<!ENTITY a "b">]>']),
  (text, random) => text.slice(0, random.below(text.length)),
  (text) => text.replaceAll('\n', '\r\n'),
  (text) => text.replaceAll('\n', '\r'),
  (text) => `\ufeff${text}`,
];

/** A damaged copy, in one of several encodings. */
export function damagedText(good: Buffer, random: Random): Buffer {
  let text = good.toString('latin1');
  for (let count = random.between(1, 4); count > 0 && text.length < MOST; count -= 1)
    text = random.pick(DAMAGES)(text, random);
  if (random.chance(0.04)) return Buffer.from(text, 'utf16le');
  const bytes = Buffer.from(text, random.chance(0.2) ? 'utf8' : 'latin1');
  if (bytes.length > 0 && random.chance(0.1))
    bytes[random.below(bytes.length)] = random.pick([0, 0x80, 0xff]);
  return bytes;
}
