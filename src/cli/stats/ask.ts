import { BlockError } from '../../block/errors.ts';
import type { StatsReport } from '../../control/stats.ts';
import { isAlive, runningServers } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { complain } from '../output.ts';
import { askServer } from '../server/ask.ts';
import { STATS } from '../server/command-names.ts';
import { findServer } from '../server/find-server.ts';

/** The statistics of the server that a process id, mount point or file names; of every server of this user without. */
export async function askStats(what: string | undefined): Promise<StatsReport[]> {
  if (what !== undefined) return [await statsOf(named(what))];
  const answers = await Promise.all(runningServers().map((server) => statsUnlessGone(server)));
  return answers.filter((answer) => answer !== undefined);
}

function named(what: string): RunningServer {
  const server = findServer(what);
  if (server !== undefined) return server;
  const text = `Cannot show statistics of "${what}": it is neither a server of yours nor a mount point of one`;
  throw new BlockError('ENOENT', text);
}

async function statsOf(server: RunningServer): Promise<StatsReport> {
  return (await askServer(server, STATS, {}, 'Cannot show statistics')) as StatsReport;
}

/** A server may end while others are asked; one of an older version does not know the question. */
async function statsUnlessGone(server: RunningServer): Promise<StatsReport | undefined> {
  try {
    return await statsOf(server);
  } catch (error) {
    if (isAlive(server)) {
      const text = error instanceof Error ? error.message : String(error);
      complain(`warning: server ${server.pid} is left out: ${text}`);
    }
    return undefined;
  }
}
