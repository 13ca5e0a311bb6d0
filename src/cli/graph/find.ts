import path from 'node:path';
import { BlockError } from '../../block/errors.ts';
import type { GraphDescription } from '../../control/describe-graph.ts';
import { GRAPH_COMMAND } from '../../control/commands/queries.ts';
import { fileKind, isSocket } from '../../sys/file.ts';
import { askServer } from '../server/ask.ts';
import { findServer, onlyServer } from '../server/find-server.ts';
import { graphOfConfig } from './from-config.ts';

/** The graph that a process id, a mount point, a control socket or a file names; of the only server when nothing is named. */
export async function findGraph(what: string | undefined): Promise<GraphDescription> {
  const server = what === undefined ? onlyServer() : findServer(what);
  if (server !== undefined) {
    const action = `Cannot show the graph of server ${server.pid}`;
    return (await askServer(server, GRAPH_COMMAND, {}, action)) as GraphDescription;
  }
  if (what !== undefined && fileKind(what) === 'regular') return graphOfConfig(what);
  if (what !== undefined && isSocket(what)) {
    const socket = path.resolve(what);
    const action = `Cannot show the graph of the server at "${what}"`;
    return (await askServer({ socket }, GRAPH_COMMAND, {}, action)) as GraphDescription;
  }
  throw new BlockError(
    'ENOENT',
    `Cannot show "${what ?? ''}": it is neither a server of yours, a mount point or socket of one, nor a file`,
  );
}
