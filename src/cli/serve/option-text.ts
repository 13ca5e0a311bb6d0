import { expandDotted, isTree } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import { UsageError } from '../command.ts';
import { parseKeyValues } from '../key-values.ts';

/** `{...}` as JSON, anything else as `key=value,...`; a first word without "=" is the value of `implied`. */
export function parseOptionText(text: string, implied: string): OptionsTree {
  return text.trimStart().startsWith('{') ? parseObject(text) : expandDotted(parseWords(text, implied));
}

/** Whether a text asks what there is instead of giving options: `help`, or `help` among them. */
export function asksForHelp(text: string): boolean {
  return !text.trimStart().startsWith('{') && /(^|,)(help|\?)(,|$)/.test(text);
}

function parseWords(text: string, implied: string): Record<string, string> {
  const first = /^[^,=]*/.exec(text)?.[0] ?? '';
  const isValue = first !== '' && text[first.length] !== '=';
  return parseKeyValues(isValue ? `${implied}=${text}` : text);
}

function parseObject(text: string): OptionsTree {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`"${text}" is not valid JSON: ${error instanceof Error ? error.message : ''}`);
  }
  if (isTree(value)) return value;
  throw new UsageError(`"${text}" must be a JSON object`);
}
