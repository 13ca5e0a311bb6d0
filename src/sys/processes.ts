/** What /proc tells about processes. Nothing here touches the files that the links name. */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface ProcessName {
  readonly pid: number;
  readonly name: string;
}

/** When the process was started, in clock ticks since boot; undefined when there is no such process (or it is dead). */
export function processStart(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  // The name is in brackets and may hold anything, so fields are counted from the last bracket: state is the third.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat === '' || fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
}

/** Processes that have something below `folder` open, mapped, or as working or root directory. */
export function processesUsing(folder: string): ProcessName[] {
  return processIds()
    .filter((pid) => uses(`/proc/${pid}`, folder))
    .map((pid) => ({ pid, name: programOf(pid) }));
}

export function processIds(): number[] {
  return listNames('/proc').map(Number).filter(Number.isInteger);
}

/**
 * The name of a program, '' when it can't be read. Node names its thread, not the program, and the kernel cuts names at 15
 * characters: the command line has the rest.
 */
export function programOf(pid: number): string {
  const name = readText(`/proc/${pid}/comm`).trimEnd();
  const program = path.basename(readText(`/proc/${pid}/cmdline`).split('\0')[0] ?? '');
  return name === 'MainThread' || program.startsWith(name) ? program : name;
}

/** What `ps` and messages about locks call this process; its command line stays. */
export function nameThisProcess(name: string): void {
  try {
    writeFileSync('/proc/self/comm', name);
  } catch {
    // A name is a courtesy.
  }
}

/** Loop devices (`/dev/loop3`) whose file lies below `folder`. */
export function loopDevicesOf(folder: string): string[] {
  const loops = listNames('/sys/block').filter((name) => name.startsWith('loop'));
  return loops
    .filter((name) => isInside(readText(`/sys/block/${name}/loop/backing_file`).trim(), folder))
    .map((name) => `/dev/${name}`);
}

function uses(process: string, folder: string): boolean {
  const links = ['cwd', 'root', 'exe', ...listNames(`${process}/fd`).map((fd) => `fd/${fd}`)];
  if (links.some((link) => isInside(readLink(`${process}/${link}`), folder))) return true;
  return readText(`${process}/maps`)
    .split('\n')
    .some((line) => isInside(line.slice(line.indexOf('/')), folder));
}

function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** A small file of /proc or /sys; '' when it can't be read. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The entries of a folder; none when it can't be read. */
export function listNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function readLink(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
