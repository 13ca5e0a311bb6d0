import { canonicalMountpoint } from '../../sys/mount-table.ts';
import { runningServers } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { UsageError } from '../command.ts';

/** The only server of this user that runs. */
export function onlyServer(): RunningServer {
  const servers = runningServers();
  const [server] = servers;
  if (server !== undefined && servers.length === 1) return server;
  throw new UsageError(`${servers.length} servers are running, name one (see "blockfuse list")`);
}

/** The server with this process id, or that shows something at this mount point or file. */
export function findServer(what: string): RunningServer | undefined {
  const servers = runningServers();
  if (/^\d+$/.test(what)) return servers.find(({ pid }) => pid === Number(what));
  const path = canonicalMountpoint(what);
  return servers.find(({ mounts }) =>
    mounts.some(({ mountpoint, file }) => mountpoint === path || file === path),
  );
}
