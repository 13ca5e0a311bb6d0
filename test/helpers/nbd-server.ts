import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { tool } from './tools.ts';

export interface NbdServer {
  readonly socket: string;
  /** At once, as by a crash. */
  kill(): Promise<void>;
}

/** Starts nbdkit on a unix socket; it ends with this process at the latest. */
export function startNbdkit(socket: string, args: readonly string[]): Promise<NbdServer> {
  return start(socket, 'nbdkit', ['--exit-with-parent', '-f', '-U', socket, ...args]);
}

/** Starts qemu-nbd on a unix socket, for any number of clients one after the other. */
export function startQemuNbd(socket: string, args: readonly string[]): Promise<NbdServer> {
  return start(socket, 'qemu-nbd', ['-t', '-e', '8', '-k', socket, ...args]);
}

async function start(socket: string, program: string, args: readonly string[]): Promise<NbdServer> {
  const child = spawn(tool(program), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.unref();
  if (child.stderr instanceof Socket) child.stderr.unref();
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  while (!(await answers(socket))) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}: ${said}`);
    await sleep(10);
  }
  return { socket, kill: () => kill(child) };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
