import { spawn } from 'node:child_process';
import { findTool } from './tools.ts';
import { HANG_MS } from './until.ts';

export interface Outcome {
  /** Exit code; -1 when a signal ended it. */
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Buffer;
  /** Milliseconds; then SIGKILL. */
  readonly timeout?: number;
}

/** Runs a program to its end, whatever its exit code. Rejects only when it can't be started or takes too long. */
export function attempt(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  const { timeout = HANG_MS, cwd, env, input = '' } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(findTool(command) ?? command, args, { cwd, env: env ?? process.env });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new Error(`${shown(command, args)} took more than ${timeout} ms\n${Buffer.concat(err).toString()}`),
      );
    }, timeout);
    child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => err.push(bytes));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({
        code: code ?? -1,
        signal,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      });
    });
  });
}

/** Runs a program that must succeed; the error carries all it printed. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  const outcome = await attempt(command, args, options);
  if (outcome.code === 0) return outcome;
  const how = outcome.signal ?? `exit code ${outcome.code}`;
  throw new Error(`${shown(command, args)}: ${how}\n${outcome.stdout}${outcome.stderr}`);
}

export type Command = readonly [command: string, ...args: string[]];

/**
 * Runs programs that must all succeed, one after the other: what each printed. A small shell starts them, since a process costs
 * as much as the one that starts it is large.
 */
export async function runEach(commands: readonly Command[]): Promise<string[]> {
  const lines = commands.map(
    ([command, ...args]) => `${[findTool(command) ?? command, ...args].map(quoted).join(' ')}; printf '\\0'`,
  );
  const { stdout } = await run('sh', ['-exc', lines.join('\n')]);
  return stdout.split('\0').slice(0, -1);
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

function shown(command: string, args: readonly string[]): string {
  return [command, ...args].join(' ');
}
