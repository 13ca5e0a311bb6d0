/** The file of rules: sections `[inject-error]` and `[set-state]` with lines `key = "value"`, `#` starts a comment. */
import * as v from 'valibot';
import { BlockError } from '../../../src/block/errors.ts';
import { INJECT_ERROR, SET_STATE } from './options.ts';
import type { Options } from './options.ts';
import type { RuleSet } from './rules.ts';

type Section = 'inject-error' | 'set-state';
interface Open {
  readonly section: Section;
  readonly line: number;
  readonly values: Record<string, string>;
}

/** Rules from the text of such a file. Throws and names the line where it makes no sense. */
export function parseConfig(text: string, filename: string): RuleSet {
  const refuse = (line: number, why: string): never => {
    throw new BlockError('EINVAL', `Cannot read rules "${filename}": line ${line}: ${why}`);
  };
  const sections: Open[] = [];
  for (const [index, raw] of text.split('\n').entries()) {
    const line = index + 1;
    const content = raw.trim();
    if (content === '' || content.startsWith('#')) continue;
    const header = /^\[\s*([\w-]+)(?:\s+"[^"]*")?\s*\]$/.exec(content)?.[1];
    if (header === 'inject-error' || header === 'set-state') {
      sections.push({ section: header, line, values: {} });
      continue;
    }
    if (header !== undefined) refuse(line, `unknown section "${header}", known are inject-error, set-state`);
    const [, key = '', value = ''] = /^([\w-]+)\s*=\s*"([^"]*)"$/.exec(content) ?? [];
    const current = sections.at(-1);
    if (key === '') refuse(line, `is ${JSON.stringify(content)}, must be [section] or key = "value"`);
    else if (current === undefined) refuse(line, `"${key}" stands before the first section`);
    else current.values[key] = value;
  }
  return ruleSet(
    sections
      .filter(({ section }) => section === 'inject-error')
      .map((open) => checked(INJECT_ERROR, open, refuse)),
    sections.filter(({ section }) => section === 'set-state').map((open) => checked(SET_STATE, open, refuse)),
  );
}

/** Rules from options as they are validated. */
export function ruleSet(inject: Options['inject-error'], setState: Options['set-state']): RuleSet {
  return {
    inject,
    setState: setState.map(({ event, state, new_state: newState }) => ({ event, state, newState })),
  };
}

function checked<Entries extends v.ObjectEntries>(
  entries: Entries,
  { values, line }: Open,
  refuse: (line: number, why: string) => never,
): v.InferOutput<v.StrictObjectSchema<Entries, undefined>> {
  const result = v.safeParse(v.strictObject(entries), values);
  if (result.success) return result.output;
  const [issue] = result.issues;
  return refuse(line, `${v.getDotPath(issue) ?? 'the section'}: ${issue.message}`);
}
