/** What /proc tells about processes. Nothing here touches the files that the links name. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessName {
  readonly pid: number;
  /** The kernel's name of it, up to 15 characters. */
  readonly name: string;
}

/** When the process was started, in clock ticks since boot; undefined when there is no such process (or it is dead). */
export function processStart(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  // The name is in brackets and may hold anything, so fields are counted from the last bracket: state is the third.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
}

/** Processes that have something below `folder` open, mapped, or as working or root directory. */
export function processesUsing(folder: string): ProcessName[] {
  const users: ProcessName[] = [];
  for (const entry of readFolder('/proc')) {
    if (!/^\d+$/.test(entry) || !uses(`/proc/${entry}`, folder)) continue;
    users.push({ pid: Number(entry), name: readText(`/proc/${entry}/comm`)?.trim() ?? '?' });
  }
  return users;
}

/** Loop devices (`/dev/loop3`) whose file lies below `folder`. */
export function loopDevicesOf(folder: string): string[] {
  const loops = readFolder('/sys/block').filter((name) => name.startsWith('loop'));
  return loops
    .filter((name) => isInside(readText(`/sys/block/${name}/loop/backing_file`)?.trim() ?? '', folder))
    .map((name) => `/dev/${name}`);
}

function uses(process: string, folder: string): boolean {
  const links = ['cwd', 'root', 'exe', ...readFolder(`${process}/fd`).map((fd) => `fd/${fd}`)];
  if (links.some((link) => isInside(readLink(`${process}/${link}`), folder))) return true;
  return (readText(`${process}/maps`) ?? '')
    .split('\n')
    .some((line) => isInside(line.slice(line.indexOf('/')), folder));
}

function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function readFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
