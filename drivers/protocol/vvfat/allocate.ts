/** Gives every folder and file clusters, one after the other: nothing is ever in pieces. */
import type { FolderEntry } from '../../../src/sys/folder-entries.ts';
import type { Geometry } from './geometry.ts';
import { SECTOR, SLOT } from './geometry.ts';
import { folders } from './tree.ts';
import type { FolderItem } from './tree.ts';

/** Clusters [first, end) hold one file or one folder. */
export interface Run {
  readonly first: number;
  readonly end: number;
  readonly content: FolderEntry | FolderItem;
}

/** The runs in order, from cluster 2 on without gaps. Sets the clusters of the items. */
export function allocate(root: FolderItem, geometry: Geometry): Run[] {
  const unit = geometry.sectorsPerCluster * SECTOR;
  const runs: Run[] = [];
  let next = 2;
  const take = (bytes: number, content: Run['content']): number => {
    const first = next;
    next += Math.ceil(bytes / unit);
    runs.push({ first, end: next, content });
    return first;
  };
  for (const folder of folders(root)) {
    if (folder !== root || geometry.type === 32)
      folder.cluster = take(Math.max(1, folder.slots) * SLOT, folder);
  }
  for (const folder of folders(root)) {
    for (const item of folder.items)
      if (!item.isFolder && item.entry.size > 0) item.cluster = take(item.entry.size, item.entry);
  }
  return runs;
}

/** The run that holds a cluster; undefined for a free one. */
export function runAt(runs: readonly Run[], cluster: number): Run | undefined {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const run = runs[middle];
    if (run === undefined) return undefined;
    if (cluster < run.first) high = middle;
    else if (cluster >= run.end) low = middle + 1;
    else return run;
  }
  return undefined;
}
