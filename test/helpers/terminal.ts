import type { ExecutionContext } from 'ava';
import { run } from './run.ts';
import { until } from './until.ts';

/** A program in a terminal of its own, as a person has it: keys go in, what stands on the screen comes out. */
export interface Terminal {
  /** Names of keys as tmux has them, or text. */
  type(...keys: readonly string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  /** @param styles with the escape sequences of colours */
  screen(styles?: boolean): Promise<string>;
  /** Waits until the screen shows it. */
  until(pattern: RegExp): Promise<string>;
}

let count = 0;

/** Runs a shell command line in tmux; needs `tmux`. */
export async function terminal(
  t: ExecutionContext,
  command: string,
  size: { readonly columns: number; readonly rows: number },
): Promise<Terminal> {
  const socket = `blockfuse-test-${process.pid}-${(count += 1)}`;
  const tmux = async (...args: string[]): Promise<string> =>
    (await run('tmux', ['-L', socket, '-f', '/dev/null', ...args])).stdout;
  const place = ['-x', String(size.columns), '-y', String(size.rows)];
  await tmux('new-session', '-d', ...place, `${command}; echo "ended with $?"; sleep 600`);
  t.teardown(() => tmux('kill-server'));
  const screen = (styles = false): Promise<string> => tmux('capture-pane', '-p', ...(styles ? ['-e'] : []));
  return {
    type: async (...keys) => void (await tmux('send-keys', ...keys)),
    resize: async (columns, rows) =>
      void (await tmux('resize-window', '-x', String(columns), '-y', String(rows))),
    screen,
    until: async (pattern) => {
      let shown = '';
      const isShown = async (): Promise<boolean> => pattern.test((shown = await screen()));
      await until(isShown, `on the screen ${pattern.source}`).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${shown}`);
      });
      return shown;
    },
  };
}
