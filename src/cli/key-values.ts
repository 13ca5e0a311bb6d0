import { UsageError } from './command.ts';

/** `a=1,b.c=x` as QEMU's tools take it: a comma inside a value is doubled; a bare key is `on`. */
export function parseKeyValues(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const part of text.replaceAll(',,', '\0').split(',')) {
    const word = part.replaceAll('\0', ',');
    if (word === '') continue;
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    if (key === '') throw new UsageError(`"${word}" has no key, must be key=value`);
    if (Object.hasOwn(values, key)) throw new UsageError(`option "${key}" is given twice`);
    values[key] = equals < 0 ? 'on' : word.slice(equals + 1);
  }
  return values;
}
