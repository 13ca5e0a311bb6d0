import { isSea } from 'node:sea';

/** First argument of a server process; not for people. */
export const SERVE = 'x-serve';

/** Program and arguments that run this very program again with `args`. */
export function selfCommand(args: readonly string[]): [string, string[]] {
  const script = isSea() ? [] : [process.argv[1] ?? ''];
  return [process.execPath, [...process.execArgv, ...script, ...args]];
}

/** Threads for what must wait for a disk: set before the process starts, libuv reads it at the first use of its pool. */
export const THREADS = 'UV_THREADPOOL_SIZE';

export function serverEnvironment(): NodeJS.ProcessEnv {
  return { [THREADS]: '16', ...process.env };
}
