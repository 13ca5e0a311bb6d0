import { bool, optional } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import { print, printJson } from './output.ts';

export const statsCommand = defineCommand({
  name: 'stats',
  summary: 'Show what went through each disk and node of running servers, and how fast',
  description: [
    'Of the server that a process id, a mount point or its file names, or of every server of yours. Counters begin when the ' +
      'server starts. A request is slow when it could not be answered at once: it had to wait for a disk.',
    'Times are of the whole request. Of those that are answered at once, one of sixteen is timed and stands for the others. ' +
      'What the kernel does by itself (its page cache, passthrough of a raw image) does not come to the server.',
    'JSON is a list of servers. A latency has requests by buckets; "latency-bounds" tells the upper ends of the buckets, ' +
      'in microseconds, the last one has none. Keys may be added, none will change its meaning. The control socket ' +
      'answers the same for one server to "x-blockfuse-stats".',
  ],
  arguments: [{ name: 'server', summary: 'Process id, mount point or file', optional: true }],
  options: {
    all: { schema: optional(bool('Every server of yours, as when none is named'), false) },
    json: { schema: optional(bool('Print JSON'), false) },
    prometheus: {
      schema: optional(bool("Print Prometheus's text format, for a textfile collector"), false),
    },
  },
  examples: [
    { command: 'blockfuse stats /mnt/disk', text: 'Of one disk' },
    { command: 'blockfuse stats --json', text: 'All of them, for scripts' },
  ],
  run: async ({ arguments: [server], options }) => {
    if (options.all && server !== undefined) throw new UsageError('--all and a server exclude each other');
    if (options.json && options.prometheus)
      throw new UsageError('--json and --prometheus exclude each other');
    const { askStats } = await import('./stats/ask.ts');
    const reports = await askStats(server);
    if (options.json) printJson(reports);
    else if (options.prometheus)
      process.stdout.write((await import('./stats/prometheus.ts')).renderPrometheus(reports, true));
    else print((await import('./stats/render.ts')).renderStats(reports));
    return 0;
  },
});
