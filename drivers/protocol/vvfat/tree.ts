/** The folder of the host as it was when the disk was opened. */
import { BlockError } from '../../../src/block/errors.ts';
import { folderEntries, folderIdentity } from '../../../src/sys/folder-entries.ts';
import type { FolderEntry } from '../../../src/sys/folder-entries.ts';
import type { DirectoryName } from './names.ts';
import { directoryNames } from './names.ts';

export interface FileItem {
  readonly isFolder: false;
  readonly entry: FolderEntry;
  readonly name: DirectoryName;
  /** First cluster; 0 for an empty file. */
  cluster: number;
}

export interface FolderItem {
  readonly isFolder: true;
  /** Undefined for the root. */
  readonly entry: FolderEntry | undefined;
  readonly name: DirectoryName | undefined;
  readonly parent: FolderItem | undefined;
  readonly items: readonly Item[];
  /** 32-byte slots that its names take, `.` and `..` included where it has them. */
  readonly slots: number;
  cluster: number;
}

export type Item = FileItem | FolderItem;

const LARGEST_FILE = 2 ** 32 - 1;
/** The specification: a directory has at most 2 MiB. */
const MOST_SLOTS = 65536;
const MOST_ITEMS = 1_000_000;

/** Reads a folder and all below it. Rejects when something does not fit a FAT disk, or links make it endless. */
export async function scanFolder(path: string, hasLabel: boolean): Promise<FolderItem> {
  const count = { items: 0 };
  return scan(path, { entry: undefined, name: undefined, parent: undefined }, { above: [], count, hasLabel });
}

interface Scan {
  /** The folders that this one is in. */
  readonly above: readonly string[];
  readonly count: { items: number };
  readonly hasLabel: boolean;
}

async function scan(
  path: string,
  about: Pick<FolderItem, 'entry' | 'name' | 'parent'>,
  { above, count, hasLabel }: Scan,
): Promise<FolderItem> {
  const refuse = (why: string): never => {
    throw new BlockError('EINVAL', `Cannot show folder "${path}" as a disk: ${why}`, { path });
  };
  const identity = await folderIdentity(path);
  if (above.includes(identity)) refuse('a link in it leads back to it');
  const entries = await folderEntries(path);
  count.items += entries.length;
  if (count.items > MOST_ITEMS) refuse(`it has more than ${MOST_ITEMS} files`);
  const names = directoryNames(entries.map(({ name }) => name));
  const items: Item[] = [];
  const own = about.parent === undefined && about.entry === undefined ? Number(hasLabel) : 2;
  const slots = names.reduce((sum, name) => sum + name.slots, own);
  if (slots > MOST_SLOTS)
    refuse(`its ${entries.length} names take ${slots} entries, at most ${MOST_SLOTS} fit`);
  const folder: FolderItem = { ...about, isFolder: true, items, slots, cluster: 0 };
  for (const [index, entry] of entries.entries()) {
    const name = names[index];
    if (name === undefined) continue;
    if (entry.size > LARGEST_FILE)
      refuse(`"${entry.name}" has ${entry.size} bytes, a file on FAT has at most ${LARGEST_FILE}`);
    if (!entry.isFolder) items.push({ isFolder: false, entry, name, cluster: 0 });
    else {
      const below = { above: [...above, identity], count, hasLabel };
      items.push(await scan(entry.path, { entry, name, parent: folder }, below));
    }
  }
  return folder;
}

/** Every folder, the root first, each before those in it. */
export function* folders(root: FolderItem): Generator<FolderItem> {
  yield root;
  for (const item of root.items) if (item.isFolder) yield* folders(item);
}
