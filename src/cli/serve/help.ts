/** What `--blockdev help` and its like print. */
import { DRIVERS } from '../../../drivers/index.ts';
import type { Driver } from '../../block/driver.ts';
import type { OptionEntries } from '../../block/schema.ts';
import { COMMON_OPTIONS } from '../../block/schema.ts';
import { defaultOf, isOptional, kindOf } from '../../block/schema-kind.ts';
import { UsageError } from '../command.ts';
import type { Repeated } from '../command.ts';
import { describeSchema } from '../describe-schema.ts';
import { renderTable } from '../render.ts';
import { SERVER_OBJECT_TYPES } from '../server/objects.ts';
import { asksForHelp, parseOptionText } from './option-text.ts';
import { BLOCKDEV_OPTIONS, KIND_NAMES, KINDS } from './step-options.ts';
import type { KindName } from './step-options.ts';

/** The help that is asked for; undefined when none is. */
export function helpFor(given: Readonly<Partial<Record<KindName, readonly Repeated[]>>>): string | undefined {
  for (const kind of KIND_NAMES) {
    const asked = given[kind]?.find(({ text }) => asksForHelp(text));
    if (asked !== undefined) return helpOn(kind, subject(kind, asked.text));
  }
  return undefined;
}

/** The driver or type that help is asked for; undefined for all. */
function subject(kind: KindName, text: string): string | undefined {
  const { implied } = KINDS[kind];
  const value = /^(help|\?)$/.test(text) ? undefined : parseOptionText(text, implied)[implied];
  return typeof value === 'string' && !/^(help|\?)$/.test(value) ? value : undefined;
}

function helpOn(kind: KindName, name: string | undefined): string {
  if (kind === 'blockdev') return name === undefined ? driverTable() : driverHelp(name);
  if (kind === 'object') return name === undefined ? objectTable() : objectHelp(name);
  return `Options of --${kind}:\n\n${optionTable(KINDS[kind].entries)}`;
}

function driverTable(): string {
  const rows = DRIVERS.map(({ name, kind, summary }) => [name, kind, summary]);
  return `Drivers:\n\n${renderTable(['NAME', 'KIND', 'WHAT IT IS'], rows)}`;
}

function driverHelp(name: string): string {
  const driver = DRIVERS.find((each) => each.name === name);
  if (driver === undefined) throw new UsageError(`there is no driver "${name}", see --blockdev help`);
  const { snapshot } = BLOCKDEV_OPTIONS;
  const parts = [`${name}: ${driver.summary}.`];
  if (Object.keys(driver.options).length > 0) parts.push(`Options:\n\n${optionTable(driver.options)}`);
  if (Object.keys(driver.children).length > 0) parts.push(`Children:\n\n${childTable(driver)}`);
  parts.push(`Options of every node:\n\n${optionTable({ ...COMMON_OPTIONS, snapshot })}`);
  return parts.join('\n\n');
}

function childTable({ children }: Driver): string {
  const rows = Object.entries(children).map(([name, { required, summary }]) => [
    name,
    required ? 'needed' : 'optional',
    summary,
  ]);
  return renderTable(['NAME', '', 'WHAT IT IS'], rows);
}

function objectTable(): string {
  const rows = SERVER_OBJECT_TYPES.map(({ name, summary }) => [name, summary]);
  return `Types of objects:\n\n${renderTable(['NAME', 'WHAT IT IS'], rows)}`;
}

function objectHelp(name: string): string {
  const type = SERVER_OBJECT_TYPES.find((each) => each.name === name);
  if (type === undefined) throw new UsageError(`there is no object type "${name}", see --object help`);
  const { id } = KINDS.object.entries;
  return `${name}: ${type.summary}.\n\n${optionTable({ id, ...type.options })}`;
}

function optionTable(entries: OptionEntries): string {
  const rows = Object.entries(entries).map(([name, schema]) => {
    const kind = kindOf(schema);
    const values = kind.kind === 'enum' ? kind.values.join('|') : (WORDS[kind.kind] ?? kind.kind);
    return [name, values, defaultText(schema), describeSchema(schema)];
  });
  return renderTable(['OPTION', 'VALUE', 'DEFAULT', 'WHAT IT DOES'], rows);
}

const WORDS: Readonly<Record<string, string>> = { bool: 'on|off', int: 'number', str: 'text' };

function defaultText(schema: Parameters<typeof kindOf>[0]): string {
  if (!isOptional(schema)) return 'needed';
  const value = defaultOf(schema);
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return value === undefined ? '' : String(value as string | number);
}
