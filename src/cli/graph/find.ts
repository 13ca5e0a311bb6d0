import { BlockError } from '../../block/errors.ts';
import type { GraphDescription } from '../../control/describe-graph.ts';
import { GRAPH_COMMAND } from '../../control/commands/queries.ts';
import { fileKind } from '../../sys/file.ts';
import { askServer } from '../server/ask.ts';
import { findServer, onlyServer } from '../server/find-server.ts';
import { graphOfConfig } from './from-config.ts';

/** The graph that a process id, a mount point or a file names; of the only server when nothing is named. */
export async function findGraph(what: string | undefined): Promise<GraphDescription> {
  const server = what === undefined ? onlyServer() : findServer(what);
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
