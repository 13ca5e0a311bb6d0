/**
 * Option schemas. One declaration gives the TypeScript type, the parsing of text (`on`, `64k`), the validation of JSON,
 * `--help`, the control socket's introspection and the tables of the documentation.
 * A text value and its JSON value are the same option: `read-only=on` and `{"read-only": true}`.
 */
import * as v from 'valibot';
import { parseSize } from '../util/sizes.ts';

export type OptionEntries = Readonly<Record<string, v.GenericSchema>>;
export type OptionsOf<Entries extends OptionEntries> = {
  readonly [K in keyof Entries]: v.InferOutput<Entries[K]>;
};

const TEXT_BOOLEANS: Readonly<Record<string, boolean>> = {
  on: true,
  yes: true,
  true: true,
  y: true,
  off: false,
  no: false,
  false: false,
  n: false,
};

/** on|off in text, true|false in JSON. */
export function bool(description: string) {
  return v.pipe(
    v.union([v.boolean(), v.picklist(Object.keys(TEXT_BOOLEANS))], 'must be on or off'),
    v.transform((value): boolean => (typeof value === 'boolean' ? value : TEXT_BOOLEANS[value] === true)),
    v.metadata({ kind: 'bool' }),
    v.description(description),
  );
}

/** Bytes: a number, or text with a binary suffix (`64k`, `1M`, `2G`, `1T`). */
export function size(description: string) {
  return v.pipe(
    v.union([v.number(), v.string()], 'must be a size in bytes, such as 65536 or 64k'),
    v.rawTransform(({ dataset, addIssue, NEVER }): number => {
      const bytes = typeof dataset.value === 'number' ? dataset.value : parseSize(dataset.value);
      if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
      addIssue({ message: 'must be a size in bytes, such as 65536 or 64k' });
      return NEVER;
    }),
    v.metadata({ kind: 'int' }),
    v.description(description),
  );
}

/** A whole number that is not a size, from `minimum` to `maximum`. */
export function integer(description: string, minimum = 0, maximum: number = Number.MAX_SAFE_INTEGER) {
  return v.pipe(
    v.union(
      [v.number(), v.pipe(v.string(), v.regex(/^-?\d+$/), v.transform(Number))],
      'must be a whole number',
    ),
    v.integer('must be a whole number'),
    v.minValue(minimum, `must be at least ${minimum}`),
    v.maxValue(maximum, `must be at most ${maximum}`),
    v.metadata({ kind: 'int', minimum, maximum }),
    v.description(description),
  );
}

export function text(description: string) {
  return v.pipe(v.string('must be text'), v.description(description));
}

export function choice<const Values extends readonly string[]>(values: Values, description: string) {
  return v.pipe(v.picklist(values, `must be one of ${values.join(', ')}`), v.description(description));
}

/** Either one value, or an object of others: `name=value`, or `name.key=value` for each key. */
export function either<One extends v.GenericSchema, Entries extends OptionEntries>(
  one: One,
  entries: Entries,
  description: string,
) {
  const keys = Object.keys(entries).join(', ');
  const values = [one, v.strictObject(entries)] as const;
  return v.pipe(
    v.union(values, `must be a value as the documentation has it, or an object of ${keys}`),
    v.description(description),
  );
}

/** Several values: a JSON array, or dotted options `name.0`, `name.1`. */
export function list<Item extends v.GenericSchema>(item: Item, description: string) {
  const numbered = v.pipe(
    v.record(v.pipe(v.string(), v.regex(/^\d+$/, 'must be numbered from 0')), v.unknown()),
    v.transform((items): unknown[] =>
      Object.entries(items)
        .sort(([a], [b]) => Number(a) - Number(b))
        .map(([, value]) => value),
    ),
  );
  const values = v.union([v.array(v.unknown()), numbered], 'must be a list');
  return v.pipe(values, v.array(item), v.metadata({ kind: 'list', item }), v.description(description));
}

/** An option that may be left out; `fallback` is what holds then. */
export const optional = v.optional;

export type DetectZeroes = 'off' | 'on' | 'unmap';

/** Options that every node takes, whatever its driver; QEMU's names and defaults. */
export const COMMON_OPTIONS = {
  driver: text('Block driver of the node'),
  'node-name': optional(text('Name of the node; made up when left out')),
  'read-only': optional(bool('Refuse writes'), undefined),
  'auto-read-only': optional(bool('Open read-only when writing is not needed or not possible'), undefined),
  'force-share': optional(bool('Ignore the locks of other programs; only with read-only'), undefined),
  discard: optional(
    choice(['ignore', 'off', 'unmap', 'on'], 'Pass discards on to the storage, or ignore them'),
  ),
  'detect-zeroes': optional(
    choice(['off', 'on', 'unmap'], 'Turn writes of zeroes into write-zeroes requests'),
  ),
  'cache.direct': optional(bool('Bypass the host page cache (O_DIRECT)'), undefined),
  'cache.no-flush': optional(bool('Ignore flush requests'), undefined),
} as const satisfies OptionEntries;

/** The common options of one node after inheritance, every one decided. */
export interface CommonOptions {
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly forceShare: boolean;
  readonly discard: 'ignore' | 'unmap';
  readonly detectZeroes: DetectZeroes;
  readonly cacheDirect: boolean;
  readonly cacheNoFlush: boolean;
}
