import { BlockError } from '../../block/errors.ts';
import type { GraphDescription } from '../../control/describe-graph.ts';
import { GRAPH_COMMAND } from '../../control/commands/queries.ts';
import { fileKind } from '../../sys/file.ts';
import { canonicalMountpoint } from '../../sys/mount-table.ts';
import { runningServers } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { UsageError } from '../command.ts';
import { askServer } from '../server/ask.ts';
import { graphOfConfig } from './from-config.ts';

/** The graph that a process id, a mount point or a file names; of the only server when nothing is named. */
export async function findGraph(what: string | undefined): Promise<GraphDescription> {
  const servers = runningServers();
  const server = what === undefined ? onlyOne(servers) : findServer(servers, what);
  if (server !== undefined) {
    const action = `Cannot show the graph of server ${server.pid}`;
    return (await askServer(server, GRAPH_COMMAND, {}, action)) as GraphDescription;
  }
  if (what !== undefined && fileKind(what) === 'regular') return graphOfConfig(what);
  throw new BlockError(
    'ENOENT',
    `Cannot show "${what ?? ''}": it is neither a server of yours, a mount point of one, nor a file`,
  );
}

function onlyOne(servers: readonly RunningServer[]): RunningServer {
  const [server] = servers;
  if (server !== undefined && servers.length === 1) return server;
  throw new UsageError(`${servers.length} servers are running, name one (see "blockfuse list")`);
}

function findServer(servers: readonly RunningServer[], what: string): RunningServer | undefined {
  if (/^\d+$/.test(what)) return servers.find(({ pid }) => pid === Number(what));
  const path = canonicalMountpoint(what);
  return servers.find(({ mounts }) =>
    mounts.some(({ mountpoint, file }) => mountpoint === path || file === path),
  );
}
