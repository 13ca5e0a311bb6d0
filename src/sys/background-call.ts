/** System calls that may wait and that node:fs does not have: made in the thread pool. */
import { BlockError } from '../block/errors.ts';
import { lastErrno, systemError } from './libc.ts';

/** koffi throws at more than 256 calls under way; the pool has few threads anyway. */
const MAX_CALLS = 64;

type Callback = (error: Error | null, result: number) => void;

/** A function of libc as koffi gives it, taking numbers (addresses too). It must not be variadic. */
export interface LibcFunction {
  async(...args: [...number[], Callback]): void;
}

const waiting: (() => void)[] = [];
/** Memory that calls under way use by address: koffi does not keep it from the garbage collector. */
const inUse = new Set<Buffer>();
let running = 0;

/**
 * Calls `call` in the thread pool; rejects with its errno when it returns -1. `action` starts the message.
 * `memory` is what the arguments point into: it stays alive until the call is over.
 */
export async function callInBackground(
  action: string,
  call: LibcFunction,
  args: readonly number[],
  memory?: Buffer,
): Promise<number> {
  await takeTurn();
  if (memory !== undefined) inUse.add(memory);
  try {
    return await start(action, call, args);
  } finally {
    if (memory !== undefined) inUse.delete(memory);
    endTurn();
  }
}

function start(action: string, call: LibcFunction, args: readonly number[]): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(...args, (error, result) => {
      const errno = lastErrno();
      if (error !== null) reject(new BlockError('EIO', `${action}: ${error.message}`, {}, error));
      else if (result === -1) reject(systemError(action, errno));
      else resolve(result);
    });
  });
}

async function takeTurn(): Promise<void> {
  if (running < MAX_CALLS) running += 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
}

/** Whoever waits first takes over this turn. */
function endTurn(): void {
  const next = waiting.shift();
  if (next === undefined) running -= 1;
  else next();
}
