import { errnoOf } from '../block/errors.ts';
import { errorsGoToJournal } from '../sys/journal.ts';

/** Writes a line (or lines) to standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

let failure: Error | undefined;

/**
 * Errors of standard output are noted, not thrown: who reads only the beginning (`| head`) has what he wanted.
 * The result tells whether everything printed so far was taken.
 */
export function watchOutput(): () => Promise<boolean> {
  process.stdout.on('error', (error) => {
    if (errnoOf(error) !== 'EPIPE') failure ??= error;
  });
  return async () => {
    // The error of a write comes with the next turn.
    await new Promise(setImmediate);
    if (failure !== undefined) complain(`cannot write to standard output: ${failure.message}`);
    return failure === undefined;
  };
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 4));
}

/** Severities as syslog numbers them. */
export const Severity = { error: 3, warning: 4, debug: 7 } as const;
type SeverityNumber = (typeof Severity)[keyof typeof Severity];

let hasStatus = false;

/** Shows a line on the terminal that the next one takes the place of; undefined takes it away. Messages come before it. */
export function setStatusLine(text: string | undefined): void {
  if (text !== undefined) process.stderr.write(`\r${text}\x1b[K`);
  else if (hasStatus) process.stderr.write('\r\x1b[K');
  hasStatus = text !== undefined;
}

let addToLog: ((text: string) => void) | undefined;

/** From now on messages go to a log, each line with the time; `add` takes whole lines. Undefined: no longer. */
export function logInto(add: ((text: string) => void) | undefined): void {
  addToLog = add;
}

/** Tells the user on standard error, `blockfuse: <message>`; the journal gets a severity instead of the name. */
export function complain(message: string): void {
  tell(message, message.startsWith('warning: ') ? Severity.warning : Severity.error);
}

export function tell(message: string, severity: SeverityNumber): void {
  setStatusLine(undefined);
  if (addToLog !== undefined) {
    addToLog(`${new Date().toISOString()} blockfuse[${process.pid}]: ${message}\n`);
  } else if (errorsGoToJournal()) {
    const lines = message.split('\n').map((line) => `<${severity}>${line}\n`);
    process.stderr.write(lines.join(''));
  } else {
    process.stderr.write(severity === Severity.debug ? `${message}\n` : `blockfuse: ${message}\n`);
  }
}

/** Whether whoever gets the messages notes their time. */
export const hasOwnClock = (): boolean => addToLog !== undefined || errorsGoToJournal();

/** An error for people, or with `json` as one line for programs; both on standard error. */
export function complainOf(error: unknown, json: boolean): void {
  const message = error instanceof Error ? error.message : String(error);
  if (!json) return complain(message);
  const context = error instanceof Error && 'context' in error ? { context: error.context } : {};
  setStatusLine(undefined);
  process.stderr.write(`${JSON.stringify({ error: { code: errnoOf(error), message, ...context } })}\n`);
}
