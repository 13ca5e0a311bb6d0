import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { print, printJson } from './output.ts';
import { renderServers } from './render.ts';

export const listCommand = defineCommand({
  name: 'list',
  summary: 'List what is mounted where',
  description: ['Shows the mounts of this user.'],
  arguments: [],
  options: { json: { schema: optional(bool('Print JSON'), false) } },
  examples: [{ command: 'blockfuse list --json', text: 'For scripts' }],
  run: async ({ options }) => {
    const { runningServers } = await import('../sys/running-servers.ts');
    const servers = runningServers();
    if (options.json) printJson(servers);
    else if (servers.length > 0) print(renderServers(servers));
    return 0;
  },
});
