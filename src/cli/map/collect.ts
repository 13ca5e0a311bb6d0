/** All that a picture of a disk shows. */
import { nodeWithSnapshots } from '../../block/internal-snapshots.ts';
import type { Node } from '../../block/node.ts';
import { allocatedSize } from '../../block/storage.ts';
import { readPartitionTable } from '../../partition/table.ts';
import type { Partition } from '../../partition/table.ts';
import { mapEntries } from '../map-entries.ts';
import { Progress } from '../progress.ts';
import type { OpenImage } from '../with-image.ts';
import { Cells } from './cells.ts';

export interface DiskPicture {
  readonly title: string;
  readonly size: number;
  readonly allocated: number | undefined;
  readonly cells: Cells;
  /** From the disk down its backing chain. */
  readonly layers: readonly Layer[];
  readonly partitions: readonly Partition[];
  /** `gpt`, `mbr`; undefined without a table. */
  readonly scheme: string | undefined;
  readonly snapshots: readonly Snapshot[];
  /** Snapshots that are not in the list: it is bounded. */
  readonly moreSnapshots: number;
}

export interface Layer {
  readonly name: string;
  readonly driver: string;
  readonly size: number;
  readonly allocated: number | undefined;
}

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly date: Date;
  readonly diskSize: number;
  readonly allocated: number;
}

const MOST_SNAPSHOTS = 50;

export async function collectPicture({ node, child }: OpenImage): Promise<DiskPicture> {
  const layers = layersOf(node);
  const cells = new Cells(child.size);
  const progress = new Progress('map');
  try {
    for await (const entry of mapEntries(child)) {
      cells.add(entry);
      progress.update(entry.start + entry.length, child.size);
    }
  } finally {
    progress.end();
  }
  // What can't be read (an encrypted disk without its key) has no table to show.
  const table = await readPartitionTable(child).catch(() => undefined);
  const listed = nodeWithSnapshots(node);
  const infos = snapshotList(listed);
  const snapshots = await Promise.all(
    infos.slice(0, MOST_SNAPSHOTS).map((info) => describeSnapshot(listed, info)),
  );
  return {
    title: layers[0]?.name ?? node.name,
    size: child.size,
    allocated: allocatedSize(node),
    cells,
    layers,
    partitions: table?.partitions ?? [],
    scheme: table?.scheme,
    snapshots,
    moreSnapshots: Math.max(0, infos.length - MOST_SNAPSHOTS),
  };
}

function layersOf(top: Node): Layer[] {
  const layers: Layer[] = [];
  for (let node: Node | undefined = top; node !== undefined; node = node.cow?.node) {
    while (node.impl.family === 'filter') node = node.filteredChild().node;
    const { filename, driver, size } = node;
    const name = filename === '' ? node.name : filename.slice(filename.lastIndexOf('/') + 1);
    layers.push({ name, driver: driver.name, size, allocated: allocatedSize(node) });
  }
  return layers;
}

function snapshotList(node: Node | undefined) {
  return node?.impl.family === 'mapping' ? (node.impl.snapshots?.list() ?? []) : [];
}

async function describeSnapshot(
  node: Node | undefined,
  info: ReturnType<typeof snapshotList>[number],
): Promise<Snapshot> {
  const { id, name, diskSize, dateSec } = info;
  const snapshots = node?.impl.family === 'mapping' ? node.impl.snapshots : undefined;
  const allocated = (await snapshots?.allocatedSize(id)) ?? 0;
  return { id, name, diskSize, allocated, date: new Date(dateSec * 1000) };
}
