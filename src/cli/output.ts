import { errnoOf } from '../block/errors.ts';

/** Writes a line (or lines) to standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 4));
}

/** Tells the user on standard error: `blockfuse: <message>`. */
export function complain(message: string): void {
  process.stderr.write(`blockfuse: ${message}\n`);
}

/** An error for people, or with `json` as one line for programs; both on standard error. */
export function complainOf(error: unknown, json: boolean): void {
  const message = error instanceof Error ? error.message : String(error);
  if (!json) return complain(message);
  const context = error instanceof Error && 'context' in error ? { context: error.context } : {};
  process.stderr.write(`${JSON.stringify({ error: { code: errnoOf(error), message, ...context } })}\n`);
}
