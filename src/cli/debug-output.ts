import { format } from 'node:util';
import debug from 'debug';
import { hasOwnClock, Severity, tell } from './output.ts';

/** Sends what `debug` has to say where complaints go: on a terminal in its own colours, else without a second time stamp. */
export function directDebug(): void {
  debug.log = (...words: unknown[]) => {
    tell(format(...words), Severity.debug);
  };
  if (debug.inspectOpts !== undefined) debug.inspectOpts.hideDate = hasOwnClock();
}
