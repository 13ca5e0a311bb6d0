import { run } from './run.ts';

const TRIES = 20;

/**
 * qemu-img where it makes a LUKS key: it measures by processor time how fast it is, and gives up when the clock of that has
 * not moved, as on a busy machine.
 */
export async function qemuImgWithNewKey(args: readonly string[]): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await run('qemu-img', args);
      return;
    } catch (error) {
      if (tries === TRIES || !String(error).includes('accurate CPU usage')) throw error;
    }
  }
}
