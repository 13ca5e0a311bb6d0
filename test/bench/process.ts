import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { onCleanup } from './cleanup.ts';

/**
 * Runs a program to its end and resolves to what it printed; rejects when it fails. In a process group of its own, so
 * that Ctrl-C reaches it only through the cleanup.
 */
export async function output(command: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(command, args, { detached: true });
  const undo = onCleanup(() => endProcess(child));
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => chunks.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => errors.push(bytes));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const code = await exitOf(child);
  await undo();
  if (code === 0) return Buffer.concat(chunks).toString();
  throw new Error(`${command} ${args.join(' ')}: exit code ${code}\n${Buffer.concat(errors).toString()}`);
}

/** Starts a program that serves until it is ended. */
export function startServer(
  command: string,
  args: readonly string[],
): { child: ChildProcess; end: () => Promise<void> } {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  const end = onCleanup(() => endProcess(child));
  return { child, end };
}

/** SIGTERM, after five seconds SIGKILL; resolves when it is gone. */
async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = exitOf(child);
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}

function exitOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(code ?? signal ?? -1);
    });
  });
}
