import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { blockfuse } from './program.ts';
import { attempt } from './run.ts';
import { until } from './until.ts';

/** A mount served by the built program in a process of its own. */
export interface MountedImage {
  /** The flat file. */
  readonly file: string;
  readonly mountpoint: string;
  /** The server. */
  readonly pid: number;
  /** Ends it as a user would: everything is written when this resolves. Rejects if a mount or the server is left. */
  unmount(): Promise<void>;
}

let count = 0;

/**
 * Mounts an image with the built command. The mount point is a new folder beside the image unless `args` ends in
 * another (an argument that starts with a slash). Unmounted when the test ends at the latest.
 */
export async function mountImage(
  t: ExecutionContext,
  image: string,
  args: readonly string[] = [],
): Promise<MountedImage> {
  const given = args.at(-1)?.startsWith('/') === true ? args.at(-1) : undefined;
  const options = given === undefined ? args : args.slice(0, -1);
  const mountpoint = given ?? join(dirname(image), `mnt${(count += 1)}`);
  if (given === undefined) await mkdir(mountpoint);
  const { stdout } = await blockfuse(['mount', '--json', ...options, image, mountpoint]);
  const { file, pid } = JSON.parse(stdout) as { file: string; pid: number };
  let ended: Promise<void> | undefined;
  const unmount = (): Promise<void> => (ended ??= end(mountpoint, pid));
  t.teardown(unmount);
  return { file, mountpoint, pid, unmount };
}

/** Whether something is mounted there. */
export async function isMounted(mountpoint: string): Promise<boolean> {
  const table = await readFile('/proc/self/mounts', 'utf8');
  return table.split('\n').some((line) => line.split(' ')[1] === mountpoint);
}

/** Whether a process is there and no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return status !== '' && !/^State:\s+Z/m.test(status);
}

/** Resident memory of a process in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
}

async function end(mountpoint: string, pid: number): Promise<void> {
  const problems: string[] = [];
  if (await isMounted(mountpoint)) {
    await blockfuse(['unmount', mountpoint]).catch((error: unknown) => problems.push(String(error)));
  }
  if (await isMounted(mountpoint)) {
    problems.push(`"${mountpoint}" is still mounted`);
    await attempt('umount', ['-l', mountpoint]);
  }
  await until(async () => !(await isAlive(pid)), `the end of server ${pid}`).catch((error: unknown) => {
    problems.push(String(error));
    process.kill(pid, 'SIGKILL');
  });
  if (problems.length > 0) throw new Error(problems.join('\n'));
}
