import { applySnapshot, changeSnapshots, snapshotsOf } from '../block/internal-snapshots.ts';
import type { Node } from '../block/node.ts';
import type { Graph } from '../block/graph.ts';
import { describeSnapshot } from '../control/describe-node.ts';
import type { ImageDescription } from '../control/describe-node.ts';
import type { ImageValues } from './image-arguments.ts';
import { watchProgress } from './progress.ts';
import { ask, servedImage } from './server/ask.ts';
import type { ServedImage } from './server/ask.ts';
import { SNAPSHOT_APPLY, SNAPSHOT_LIST } from './server/command-names.ts';
import { withImageTables } from './with-graph.ts';

export interface ImageSnapshots {
  list(): Promise<ImageDescription[]>;
  create(name: string): Promise<void>;
  /** By id or name. */
  apply(snapshot: string): Promise<void>;
  delete(snapshot: string): Promise<void>;
}

/** The snapshots inside an image: through the server that has it mounted, where there is one. */
export function snapshotsOfImage(image: string, values: ImageValues): ImageSnapshots {
  const served = servedImage(image);
  return served === undefined ? inFile(image, values) : inMount(served);
}

function inMount(served: ServedImage): ImageSnapshots {
  const device = served.mount.node;
  const list = async (): Promise<ImageDescription[]> =>
    (await ask(served, SNAPSHOT_LIST, { device })) as ImageDescription[];
  return {
    list,
    create: async (name) => {
      await ask(served, 'blockdev-snapshot-internal-sync', { device, name });
    },
    apply: async (snapshot) => {
      await ask(served, SNAPSHOT_APPLY, { device, snapshot });
    },
    delete: async (snapshot) => {
      const byId = (await list()).some(({ id }) => id === snapshot);
      const which = byId ? { id: snapshot } : { name: snapshot };
      await ask(served, 'blockdev-snapshot-delete-internal-sync', { device, ...which });
    },
  };
}

function inFile(image: string, values: ImageValues): ImageSnapshots {
  const change = (run: (graph: Graph, node: Node) => Promise<unknown>): Promise<void> =>
    watchProgress('snapshot', undefined, () =>
      withImageTables(image, values, true, async (graph, node) => {
        await run(graph, node);
      }),
    );
  return {
    list: () =>
      withImageTables(image, values, false, async (_graph, node) =>
        snapshotsOf(node).list().map(describeSnapshot),
      ),
    create: (name) => change((graph, node) => changeSnapshots(graph, node, (all) => all.create(name))),
    apply: (snapshot) => change((graph, node) => applySnapshot(graph, node, snapshot)),
    delete: (snapshot) =>
      change((graph, node) => changeSnapshots(graph, node, (all) => all.delete(snapshot))),
  };
}
