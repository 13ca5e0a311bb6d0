import { bool, optional } from '../block/schema.ts';
import { defineCommand, UsageError } from './command.ts';
import type { Options, OptionValues } from './command.ts';
import { print, printJson } from './output.ts';
import type { GraphDescription } from '../control/describe-graph.ts';

const OPTIONS = {
  json: { schema: optional(bool('Print JSON'), false) },
  dot: { schema: optional(bool('Print a graph for Graphviz'), false) },
  svg: { schema: optional(bool('Print a picture'), false) },
} as const satisfies Options;

export const graphCommand = defineCommand({
  name: 'graph',
  summary: 'Show the nodes of a server: who stands on whom, with which permissions',
  description: [
    'Of a server that runs, by the process id, a mount point, or neither when there is only one; or of a file that ' +
      '"serve --config" takes, without opening anything. Without options it prints a tree.',
  ],
  arguments: [{ name: 'server', summary: 'Process id, mount point, control socket or file', optional: true }],
  options: OPTIONS,
  examples: [
    { command: 'blockfuse graph /mnt/disk', text: 'As a tree' },
    { command: 'blockfuse graph --svg disks.yaml >disks.svg', text: 'A picture of what a file describes' },
  ],
  run: async ({ arguments: [what], options }) => {
    const { findGraph } = await import('./graph/find.ts');
    await show(await findGraph(what), options);
    return 0;
  },
});

async function show(graph: GraphDescription, options: OptionValues<typeof OPTIONS>): Promise<void> {
  const chosen = Object.values(options).filter(Boolean).length;
  if (chosen > 1) throw new UsageError('--json, --dot and --svg exclude each other');
  if (options.json) return printJson(graph);
  if (options.dot) return print((await import('./graph/dot.ts')).renderDot(graph));
  if (options.svg) return print((await import('./graph/svg.ts')).renderSvg(graph));
  print((await import('./graph/tree.ts')).renderTree(graph));
}
