import { UsageError } from './command.ts';
import type { Repeated } from './command.ts';

/** `a=1,b.c=x` as QEMU's tools take it: a comma inside a value is doubled; a bare key is `on`. */
export function parseKeyValues(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  addKeyValues(values, text);
  return values;
}

/** The same of an option that was given several times: its lists add up, as in QEMU's tools. */
export function parseKeyValueLists(lists: readonly Repeated[]): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { text } of lists) addKeyValues(values, text);
  return values;
}

function addKeyValues(values: Record<string, string>, text: string): void {
  for (const part of text.replaceAll(',,', '\0').split(',')) {
    const word = part.replaceAll('\0', ',');
    if (word === '') continue;
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    if (key === '') throw new UsageError(`"${word}" has no key, must be key=value`);
    if (Object.hasOwn(values, key)) throw new UsageError(`option "${key}" is given twice`);
    values[key] = equals < 0 ? 'on' : word.slice(equals + 1);
  }
}
