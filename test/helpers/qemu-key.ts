import { run } from './run.ts';

const TRIES = 20;

/**
 * Runs a program of QEMU that makes a LUKS key: it measures by processor time how fast it is, and gives up when the clock of
 * that has not moved, as on a busy machine.
 */
export async function withNewKey(program: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await program();
      return;
    } catch (error) {
      if (tries === TRIES || !String(error).includes('accurate CPU usage')) throw error;
    }
  }
}

/** qemu-img where it makes a LUKS key. */
export function qemuImgWithNewKey(args: readonly string[]): Promise<void> {
  return withNewKey(() => run('qemu-img', args));
}
