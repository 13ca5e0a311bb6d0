import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { attempt, run } from './run.ts';

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

async function detachNow(path: string): Promise<void> {
  await run('losetup', ['--detach', path]);
  const backing = `/sys/block/${basename(path)}/loop/backing_file`;
  for (let tries = 0; tries < 1500; tries += 1) {
    if (!existsSync(backing)) return;
    await delay(20);
  }
  throw new Error(`Cannot detach "${path}": it is still in use`);
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
  for (let tries = 0; tries < 150; tries += 1) {
    const { code, stderr } = await attempt('mount', args);
    if (code === 0) return;
    if (!stderr.includes('already mounted or mount point busy')) break;
    await delay(200);
  }
  await run('mount', args);
}
