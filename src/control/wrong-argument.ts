import type * as v from 'valibot';
import type { Driver } from '../block/driver.ts';
import { isTree, peekOption } from '../block/options.ts';
import { COMMON_OPTIONS } from '../block/schema.ts';
import type { OptionEntries } from '../block/schema.ts';
import { kindOf } from '../block/schema-kind.ts';
import { CommandError } from './command-error.ts';

const TYPES: Readonly<Record<string, string>> = {
  bool: 'boolean',
  int: 'integer',
  str: 'string',
  enum: 'string',
  list: 'array',
  object: 'object',
};
const JSON_TYPES: Readonly<Record<string, string>> = { number: 'int', string: 'str', boolean: 'bool' };

/** What is wrong with an argument, in QEMU's words as far as it has any. */
export function wrongArgument(
  issue: v.BaseIssue<unknown>,
  entries: OptionEntries,
  within: readonly (string | number)[] = [],
): string {
  const path = (issue.path ?? []).map(({ key }) => key);
  const name = pathName([...within, ...path]);
  if (issue.expected === 'never') return `Parameter '${name}' is unexpected`;
  if (issue.input === undefined || issue.message.startsWith('Invalid key: Expected "'))
    return `Parameter '${name}' is missing`;
  if (issue.message.startsWith('must be one of ') && typeof issue.input === 'string')
    return `Parameter '${String(path.at(-1) as string)}' does not accept value '${issue.input}'`;
  const kind = kindAt(path, entries);
  if (kind === undefined) return `Parameter '${name}' ${issue.message}`;
  if (jsonKind(issue.input) !== kind && (TYPES[kind] ?? '') !== '')
    return `Invalid parameter type for '${name}', expected: ${TYPES[kind]}`;
  return `Parameter '${name}' ${issue.message}`;
}

/**
 * Schemas take text as well, as command lines have it; JSON that comes over a socket has types. Throws for the first argument
 * of another one.
 */
export function refuseOtherTypes(entries: OptionEntries, given: unknown, within = ''): void {
  if (!isTree(given)) return;
  for (const [name, schema] of Object.entries(entries)) {
    const value = peekOption(given, name);
    const { kind } = kindOf(schema);
    const wanted = kind === 'enum' ? 'str' : kind;
    if (value === undefined || !TYPED.has(wanted) || jsonKind(value) === wanted) continue;
    const text = `Invalid parameter type for '${within}${name}', expected: ${TYPES[kind]}`;
    throw new CommandError('GenericError', text);
  }
}

/** The same for the options of a node and of the nodes within them. */
export function refuseOtherTypesInNode(
  drivers: ReadonlyMap<string, Driver>,
  given: unknown,
  within = '',
): void {
  if (Array.isArray(given)) {
    for (const [index, item] of given.entries())
      refuseOtherTypesInNode(drivers, item, `${within.slice(0, -1)}[${index}].`);
  }
  if (!isTree(given)) return;
  const { driver } = given;
  const own = typeof driver === 'string' ? drivers.get(driver)?.options : undefined;
  const entries = { ...COMMON_OPTIONS, ...own };
  refuseOtherTypes(entries, given, within);
  const declared = new Set(Object.keys(entries));
  for (const [name, value] of Object.entries(given))
    if (!declared.has(name)) refuseOtherTypesInNode(drivers, value, `${within}${name}.`);
}

const TYPED: ReadonlySet<string> = new Set(['bool', 'int', 'str', 'list']);

/** `actions[0].type` */
function pathName(path: readonly unknown[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
}

function kindAt(path: readonly unknown[], entries: OptionEntries): string | undefined {
  const [first] = path;
  const schema = typeof first === 'string' ? entries[first] : undefined;
  return schema === undefined || path.length > 1 ? undefined : kindOf(schema).kind;
}

function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return 'list';
  return JSON_TYPES[typeof value] ?? typeof value;
}
