import { lstatSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

export interface Mount {
  readonly path: string;
  /** `fuse.blockfuse` for ours. */
  readonly type: string;
  readonly source: string;
}

/** Everything mounted in this process's namespace, the newest last. */
export function mountTable(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n').map(parseLine);
}

/** What is mounted exactly at `path`, on top. Asks the table only: a mount that hangs is found too. */
export function mountAt(path: string): Mount | undefined {
  return mountTable().findLast((mount) => mount.path === path);
}

/**
 * The absolute path of a mountpoint as the table of mounts has it: symbolic links resolved, without asking the
 * mounted file system anything (its server may be gone or stuck).
 */
export function canonicalMountpoint(path: string): string {
  const absolute = resolve(path);
  if (absolute === '/') return absolute;
  const candidate = join(realpathSync(dirname(absolute)), basename(absolute));
  if (mountAt(candidate) !== undefined) return candidate;
  const found = lstatSync(candidate, { throwIfNoEntry: false });
  if (found?.isSymbolicLink() !== true) return candidate;
  return canonicalMountpoint(resolve(dirname(candidate), readlinkSync(candidate)));
}

/** proc(5): the mount point is the fifth field, type and source follow the lone dash. */
function parseLine(line: string): Mount {
  const fields = line.split(' ');
  const dash = fields.indexOf('-', 6);
  const [path = '', type = '', source = ''] = [fields[4], fields[dash + 1], fields[dash + 2]].map(unescape);
  return { path, type, source };
}

/** Space, tab, newline and backslash stand as octal numbers. */
function unescape(field = ''): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCodePoint(parseInt(octal, 8)));
}
