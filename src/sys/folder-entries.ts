import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from './file-error.ts';

/** A file or folder as it was when it was looked at; links are followed. */
export interface FolderEntry {
  readonly name: string;
  readonly path: string;
  readonly isFolder: boolean;
  /** Bytes; 0 for folders. */
  readonly size: number;
  readonly mtimeMs: number;
}

/**
 * What lies in a folder, sorted by name. Left out: what is neither a file nor a folder, links that lead nowhere, names that
 * are no text.
 */
export async function folderEntries(path: string): Promise<FolderEntry[]> {
  const names = await readdir(path).catch((error: unknown) => {
    throw fileError(`Cannot read folder "${path}"`, error);
  });
  const entries: FolderEntry[] = [];
  for (const name of names.sort()) {
    if (name.includes('\ufffd')) continue;
    const full = join(path, name);
    const stats = await stat(full).catch(() => undefined);
    if (stats === undefined || (!stats.isFile() && !stats.isDirectory())) continue;
    const isFolder = stats.isDirectory();
    entries.push({ name, path: full, isFolder, size: isFolder ? 0 : stats.size, mtimeMs: stats.mtimeMs });
  }
  return entries;
}

/** The one name of a folder that has no links in it: two that are the same have the same. */
export async function folderIdentity(path: string): Promise<string> {
  return realpath(path).catch((error: unknown) => {
    throw fileError(`Cannot read folder "${path}"`, error);
  });
}
