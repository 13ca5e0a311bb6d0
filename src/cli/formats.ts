import type { Driver } from '../block/driver.ts';
import { bool, optional } from '../block/schema.ts';
import type { OptionEntries } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { describeSchema } from './describe-schema.ts';
import { print, printJson } from './output.ts';
import { renderTable } from './render.ts';

export const formatsCommand = defineCommand({
  name: 'formats',
  summary: 'List the drivers, or the options of one',
  description: [],
  arguments: [{ name: 'driver', summary: 'Show the options of this one', optional: true }],
  options: { json: { schema: optional(bool('Print JSON'), false) } },
  examples: [{ command: 'blockfuse formats qcow2', text: 'What mount -O and create -O take for qcow2' }],
  run: async ({ arguments: [name], options }) => {
    const { DRIVERS } = await import('../../drivers/index.ts');
    if (name !== undefined) return showOptions(DRIVERS, name, options.json);
    const rows = DRIVERS.map((driver) => ({
      name: driver.name,
      kind: driver.kind,
      probed: driver.probe !== undefined,
      create: driver.create !== undefined,
      check: driver.check !== undefined,
      summary: driver.summary,
    }));
    if (options.json) printJson(rows);
    else print(renderTable(['NAME', 'KIND', 'CAN', 'WHAT IT IS'], rows.map(tableRow)));
    return 0;
  },
});

function showOptions(drivers: readonly Driver[], name: string, json: boolean): number {
  const driver = drivers.find((candidate) => candidate.name === name);
  if (driver === undefined) throw new UsageError(`there is no driver "${name}", see blockfuse formats`);
  const rows = [...optionRows('open', driver.options), ...optionRows('create', driver.createOptions ?? {})];
  if (json) printJson(rows);
  else if (rows.length === 0) print(`${name} has no options of its own`);
  else
    print(
      renderTable(
        ['FOR', 'OPTION', 'DEFAULT', 'WHAT IT DOES'],
        rows.map((row) => [row.for, row.option, String(row.default ?? ''), row.summary]),
      ),
    );
  return 0;
}

function optionRows(use: 'open' | 'create', entries: OptionEntries) {
  return Object.entries(entries).map(([option, schema]) => {
    const fallback: unknown = 'default' in schema ? schema.default : undefined;
    const known =
      typeof fallback === 'string' || typeof fallback === 'number' || typeof fallback === 'boolean';
    return { for: use, option, summary: describeSchema(schema), ...(known ? { default: fallback } : {}) };
  });
}

interface Row {
  readonly name: string;
  readonly kind: string;
  readonly create: boolean;
  readonly check: boolean;
  readonly summary: string;
}

function tableRow(row: Row): string[] {
  const can = ['open', ...(row.create ? ['create'] : []), ...(row.check ? ['check'] : [])];
  return [row.name, row.kind, can.join(' '), row.summary];
}
