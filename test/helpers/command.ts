import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { Outcome, RunOptions } from './run.ts';
import { attempt } from './run.ts';

const BUNDLE = fileURLToPath(new URL('../../dist/blockfuse.js', import.meta.url));

/** Runs the built command (`npm test` builds it) to its end, whatever its exit code. */
export function blockfuse(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  if (!existsSync(BUNDLE)) throw new Error('dist/ is not built: npm run build');
  return attempt(process.execPath, [BUNDLE, ...args], options);
}

export interface MountedImage {
  /** The file that shows the disk. */
  readonly file: string;
  readonly mountpoint: string;
  readonly pid: number;
  readonly node: string;
}

/** Mounts an image for the rest of the test. */
export async function mountImage(
  t: ExecutionContext,
  image: string,
  mountpoint: string,
  options: readonly string[] = [],
): Promise<MountedImage> {
  t.teardown(() => blockfuse(['unmount', '--lazy', mountpoint]));
  const outcome = await blockfuse(['mount', '--json', ...options, image, mountpoint]);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout) as MountedImage;
}

/** Unmounts what must be unmountable. */
export async function unmountImage(mountpoint: string): Promise<void> {
  const outcome = await blockfuse(['unmount', mountpoint]);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
}
