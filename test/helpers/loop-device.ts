import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ExecutionContext } from 'ava';
import { attempt, run } from './run.ts';
import type { Outcome } from './run.ts';
import { until } from './until.ts';

export interface LoopDevice {
  readonly path: string;
  detach(): Promise<void>;
}

/** A loop device over a file, detached when the test ends at the latest. Needs root. */
export async function loopDevice(
  t: ExecutionContext,
  file: string,
  args: readonly string[] = [],
): Promise<LoopDevice> {
  const { stdout } = await run('losetup', ['--find', '--show', ...args, file]);
  const path = stdout.trim();
  let done: Promise<void> | undefined;
  const detach = (): Promise<void> => (done ??= detachNow(path));
  t.teardown(detach);
  return { path, detach };
}

/** The file of a loop device, '' without one. A device that is free may be somebody else's at once. */
export const backingFile = (path: string): Promise<string> =>
  readFile(`/sys/block/${basename(path)}/loop/backing_file`, 'utf8').catch(() => '');

async function detachNow(path: string): Promise<void> {
  const file = await backingFile(path);
  await run('losetup', ['--detach', path]);
  await until(async () => (await backingFile(path)) !== file, `the end of "${path}", which is in use`);
}

/** Mounts a file system of the kernel's, unmounted when the test ends at the latest. */
export async function mountDevice(
  t: ExecutionContext,
  device: string,
  folder: string,
  args: readonly string[] = [],
) {
  await mountWhenFree([...args, device, folder]);
  let done: Promise<void> | undefined;
  const unmount = (): Promise<void> => (done ??= run('umount', [folder]).then(() => undefined));
  t.teardown(async () => {
    const table = await readFile('/proc/self/mounts', 'utf8');
    if (table.includes(` ${folder} `)) await unmount();
  });
  return { unmount };
}

/** A mount namespace of another test has copies of every mount there was when it began: the device is busy until it ends. */
async function mountWhenFree(args: readonly string[]): Promise<void> {
  let outcome: Outcome | undefined;
  const isAnswered = async (): Promise<boolean> => {
    outcome = await attempt('mount', args);
    return outcome.code === 0 || !outcome.stderr.includes('already mounted or mount point busy');
  };
  await until(isAnswered, `mount ${args.join(' ')}, which is busy`);
  if (outcome?.code !== 0) throw new Error(`mount ${args.join(' ')}: ${outcome?.stderr}`);
}
