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
      read: true,
      write: driver.onlyRead !== true,
      create: driver.create !== undefined,
      check: driver.check !== undefined,
      summary: driver.summary,
      subformats: driver.subformats?.map((subformat) => ({ ...subformat, read: true })),
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
  else printOptions(name, rows);
  const { subformats = [] } = driver;
  if (!json && subformats.length > 0)
    print(
      `\n${renderTable(
        ['SUBFORMAT', 'CAN'],
        subformats.map((shape) => [shape.name, abilities(shape)]),
      )}`,
    );
  return 0;
}

function printOptions(name: string, rows: ReturnType<typeof optionRows>): void {
  if (rows.length === 0) print(`${name} has no options of its own`);
  else
    print(
      renderTable(
        ['FOR', 'OPTION', 'DEFAULT', 'WHAT IT DOES'],
        rows.map((row) => [row.for, row.option, String(row.default ?? ''), row.summary]),
      ),
    );
}

function optionRows(use: 'open' | 'create', entries: OptionEntries) {
  return Object.entries(entries).map(([option, schema]) => {
    const fallback: unknown = 'default' in schema ? schema.default : undefined;
    const known =
      typeof fallback === 'string' || typeof fallback === 'number' || typeof fallback === 'boolean';
    return { for: use, option, summary: describeSchema(schema), ...(known ? { default: fallback } : {}) };
  });
}

interface Abilities {
  readonly write: boolean;
  readonly create: boolean;
  readonly check?: boolean;
}

interface Row extends Abilities {
  readonly name: string;
  readonly kind: string;
  readonly summary: string;
}

const tableRow = (row: Row): string[] => [row.name, row.kind, abilities(row), row.summary];

function abilities({ write, create, check = false }: Abilities): string {
  return [
    'read',
    ...(write ? ['write'] : []),
    ...(create ? ['create'] : []),
    ...(check ? ['check'] : []),
  ].join(' ');
}
