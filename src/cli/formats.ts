import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { print, printJson } from './output.ts';
import { renderTable } from './render.ts';

export const formatsCommand = defineCommand({
  name: 'formats',
  summary: 'List the drivers: formats, protocols and filters',
  description: [],
  arguments: [],
  options: { json: { schema: optional(bool('Print JSON'), false) } },
  examples: [],
  run: async ({ options }) => {
    const { DRIVERS } = await import('../../drivers/index.ts');
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
