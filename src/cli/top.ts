import { bool, optional, text } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';

const LEAST_SECONDS = 0.1;
const MOST_SECONDS = 3600;

export const topCommand = defineCommand({
  name: 'top',
  summary: 'Watch what goes through each disk and node of running servers',
  description: [
    'A table that is drawn again every second: requests and MiB a second; the time that half of the requests (P50) and all but ' +
      'one of a hundred (P99) did not exceed; how many of a hundred looks into the caches found something; requests that wait ' +
      'now; what the image takes on its medium. "q" ends it.',
    'Where standard output is no terminal it prints a table for each interval. NO_COLOR is respected.',
  ],
  arguments: [
    {
      name: 'server',
      summary: 'Process id, mount point or file; all of yours when left out',
      optional: true,
    },
  ],
  options: {
    interval: {
      schema: optional(text('Seconds between two looks (default 1)'), '1'),
      value: 'seconds',
      short: 'd',
    },
    once: { schema: optional(bool('Print one table, of one interval, and end'), false) },
    count: { schema: optional(text('Print so many tables and end')), value: 'number', short: 'n' },
  },
  examples: [
    { command: 'blockfuse top', text: 'All servers' },
    { command: 'blockfuse top --once --interval 10 /mnt/disk', text: 'Ten seconds of one, as text' },
  ],
  run: async ({ arguments: [server], options }) => {
    const seconds = Number(options.interval);
    if (!(seconds >= LEAST_SECONDS && seconds <= MOST_SECONDS)) {
      throw new UsageError(
        `--interval is "${options.interval}", must be ${LEAST_SECONDS} to ${MOST_SECONDS} seconds`,
      );
    }
    const count = options.once ? 1 : tables(options.count);
    const { printTables, watchOnScreen } = await import('./top/watch.ts');
    if (process.stdout.isTTY && count === undefined) await watchOnScreen({ server, seconds, count });
    else await printTables({ server, seconds, count });
    return 0;
  },
});

function tables(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  if (/^[1-9]\d{0,8}$/.test(given)) return Number(given);
  throw new UsageError(`--count is "${given}", must be a number above 0`);
}
