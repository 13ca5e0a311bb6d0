import { bool, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import type { Attachment } from '../sys/attachments.ts';
import type { RunningServer } from '../sys/running-servers.ts';
import { complain, print, printJson } from './output.ts';
import { renderServers } from './render.ts';

export const listCommand = defineCommand({
  name: 'list',
  summary: 'List what is mounted where',
  description: ['Shows the mounts of this user, and warns of others that have no server it knows.'],
  arguments: [],
  options: { json: { schema: optional(bool('Print JSON'), false) } },
  examples: [{ command: 'blockfuse list --json', text: 'For scripts' }],
  run: async ({ options }) => {
    const { leftLogs, runningServers } = await import('../sys/running-servers.ts');
    const { listMounts } = await import('../sys/fuse-mountpoint.ts');
    const { attachments, hasDevice } = await import('../sys/attachments.ts');
    const attached = attachments().filter(hasDevice);
    const servers = runningServers().map((server) => withDevices(server, attached));
    if (options.json) printJson(servers);
    else if (servers.length > 0) print(renderServers(servers));
    const ours = new Set(servers.flatMap(({ mounts }) => mounts.map(({ mountpoint }) => mountpoint)));
    for (const { type, target } of listMounts()) {
      if (type !== 'fuse.blockfuse' || ours.has(target)) continue;
      complain(`warning: "${target}" has no server of yours: another user's, or one that was killed`);
    }
    for (const log of leftLogs()) complain(`warning: a server that is gone had something to say: ${log}`);
    return 0;
  },
});

function withDevices(server: RunningServer, attached: readonly Attachment[]): RunningServer {
  const mounts = server.mounts.map((mount) => {
    const attachment = attached.find(({ mountpoint }) => mountpoint === mount.mountpoint);
    return attachment === undefined
      ? mount
      : { ...mount, device: attachment.device, folder: attachment.folder };
  });
  return { ...server, mounts };
}
