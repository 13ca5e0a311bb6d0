import { isSea } from 'node:sea';

/** First argument of a server process; not for people. */
export const SERVE = 'x-serve';

/**
 * Program and arguments that run this very program again with `args`. The single executable is found through /proc: the
 * file may have been replaced by a newer one since, or be out of sight.
 */
export function selfCommand(args: readonly string[]): [string, string[]] {
  if (isSea()) return ['/proc/self/exe', [...args]];
  return [process.execPath, [...process.execArgv, process.argv[1] ?? '', ...args]];
}

/** What the program calls itself when it runs itself. */
export const selfName = (): string => (isSea() ? 'blockfuse' : process.execPath);

/** Threads for what must wait for a disk: set before the process starts, libuv reads it at the first use of its pool. */
export const THREADS = 'UV_THREADPOOL_SIZE';

export function serverEnvironment(): NodeJS.ProcessEnv {
  return { [THREADS]: '16', ...process.env };
}
