import { DRIVERS } from '../../drivers/index.ts';
import { Gate } from '../block/gate.ts';
import type { GatePolicy } from '../block/gate.ts';
import { Graph } from '../block/graph.ts';
import type { GraphSetup } from '../block/graph.ts';
import { fileKind } from '../sys/file.ts';
import { siblings } from '../sys/folders.ts';
import { realPath } from '../sys/paths.ts';
import { readTextFile } from '../sys/text-file.ts';
import { unpackThreads } from '../sys/unpack-threads.ts';

/** An empty graph with all drivers, on this machine's files. */
export function makeGraph(
  policy: Partial<GatePolicy>,
  warn: (message: string) => void,
  more: Partial<GraphSetup> = {},
): Graph {
  return new Graph({
    drivers: DRIVERS,
    gate: new Gate({ ...policy, realPath }),
    protocolFor: (filename) => (fileKind(filename) === 'block' ? 'host_device' : 'file'),
    siblings,
    readText: readTextFile,
    unpacker: unpackThreads,
    warn,
    ...more,
  });
}
