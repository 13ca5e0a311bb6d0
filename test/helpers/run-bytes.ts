import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { findTool } from './tools.ts';

/** What a program that must succeed writes when it is given `input`. */
export async function runBytes(command: string, args: readonly string[], input: Buffer): Promise<Buffer> {
  const child = spawn(findTool(command) ?? command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const out: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  return Buffer.concat(out);
}
