import { lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { listMounts } from './fuse-mountpoint.ts';
import type { MountEntry } from './fuse-mountpoint.ts';
import { realPath } from './paths.ts';

/** What is mounted exactly at `path`, on top. Asks the table of mounts only: a mount that hangs is found too. */
export function mountAt(path: string): MountEntry | undefined {
  return listMounts().findLast((mount) => mount.target === path);
}

/**
 * The absolute path of a mountpoint as the table of mounts has it: symbolic links resolved, without asking the
 * mounted file system anything (its server may be gone or stuck).
 */
export function canonicalMountpoint(path: string): string {
  const absolute = resolve(path);
  if (absolute === '/') return absolute;
  const candidate = join(realPath(dirname(absolute)), basename(absolute));
  if (mountAt(candidate) !== undefined) return candidate;
  const found = lstatSync(candidate, { throwIfNoEntry: false });
  if (found?.isSymbolicLink() !== true) return candidate;
  return canonicalMountpoint(resolve(dirname(candidate), readlinkSync(candidate)));
}
