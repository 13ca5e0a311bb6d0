/**
 * Who holds a byte lock: the kernel does not say for locks of open file descriptions, but every process shows the locks of
 * each descriptor in /proc/PID/fdinfo/N, e.g. `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`.
 * No file is looked at by name: a stat of a stranger's descriptor may hang, on our own mount for ever.
 */
import path from 'node:path';
import { listNames, processIds, programOf, readText } from './processes.ts';

export interface LockHolder {
  readonly pid: number;
  /** Name of the program, '' when it can't be read. */
  readonly command: string;
}

const LOCK_LINE = /^lock:\s+\d+: \S+ +\S+ +\S+ +-?\d+ ([0-9a-f]+:[0-9a-f]+:\d+) (\d+) (\d+|EOF)$/gm;

/**
 * The processes whose locks cover `byte` of the file behind `fd`. Empty when /proc does not tell: not allowed, another
 * machine, gone meanwhile. `fd` must hold a lock itself: its entry tells how the kernel names the file.
 */
export function lockHolders(fd: number, byte: number): LockHolder[] {
  const file = parseLocks(readText(`/proc/self/fdinfo/${fd}`))[0]?.file;
  if (file === undefined) return [];
  const holders: LockHolder[] = [];
  for (const pid of processIds()) {
    const own = pid === process.pid ? fd : -1;
    if (holdsLock(pid, own, { file, byte })) holders.push({ pid, command: programOf(pid) });
  }
  return holders;
}

interface Lock {
  /** Device and inode as the kernel prints them. */
  readonly file: string;
  readonly first: number;
  readonly last: number;
}

function parseLocks(text: string): Lock[] {
  return [...text.matchAll(LOCK_LINE)].map(([, file = '', first, last]) => ({
    file,
    first: Number(first),
    last: last === 'EOF' ? Number.MAX_SAFE_INTEGER : Number(last),
  }));
}

function holdsLock(pid: number, except: number, wanted: { file: string; byte: number }): boolean {
  const directory = `/proc/${pid}/fdinfo`;
  return listNames(directory).some((name) => {
    if (Number(name) === except) return false;
    const locks = parseLocks(readText(path.join(directory, name)));
    return locks.some(
      (lock) => lock.file === wanted.file && lock.first <= wanted.byte && wanted.byte <= lock.last,
    );
  });
}
