import { setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds after which something hangs: a busy machine comes nowhere near. ava waits for longer (package.json). */
export const HANG_MS = 180_000;

/** Waits for a state that has to come, however slow the machine is. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = performance.now() + HANG_MS; !(await condition()); await sleep(10)) {
    if (performance.now() > end) throw new Error(`${what}: not within ${HANG_MS / 1000} s`);
  }
}
