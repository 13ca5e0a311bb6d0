/** fusermount3, the set-user-ID program that mounts for ordinary users and hands the device over. */
import { spawn } from 'node:child_process';
import type { ErrnoCode } from '../block/errors.ts';
import { BlockError } from '../block/errors.ts';
import { closeDescriptor, receiveDescriptor, socketPair } from './sockets.ts';

const PROGRAMS = ['fusermount3', 'fusermount'];

interface Outcome {
  readonly code: number | null;
  readonly stderr: string;
}

/** Mounts and returns the descriptor of the device. `options` are those of `-o`, escaped already. */
export async function helperMount(mountpoint: string, options: string): Promise<number> {
  const [ours, theirs] = socketPair();
  try {
    const args = ['-o', options, '--', mountpoint];
    const outcome = await runHelper(args, theirs).finally(() => {
      closeDescriptor(theirs);
    });
    const fd = outcome.code === 0 ? receiveDescriptor(ours) : undefined;
    if (fd !== undefined) return fd;
    throw failure('mount', mountpoint, outcome);
  } finally {
    closeDescriptor(ours);
  }
}

export async function helperUnmount(mountpoint: string, lazy: boolean): Promise<void> {
  const outcome = await runHelper([lazy ? '-uz' : '-u', '--', mountpoint], undefined);
  if (outcome.code !== 0) throw failure('unmount', mountpoint, outcome);
}

/** The program only tells in words what went wrong. */
function failure(action: string, mountpoint: string, outcome: Outcome): BlockError {
  const words = outcome.stderr.trim().split('\n').join('; ');
  const reason = words === '' ? `fusermount3 ended with code ${outcome.code}` : words;
  return new BlockError(codeOf(words), `Cannot ${action} "${mountpoint}": ${reason}`, { path: mountpoint });
}

function codeOf(words: string): ErrnoCode {
  if (/busy/i.test(words)) return 'EBUSY';
  if (/permission denied|no write access/i.test(words)) return 'EACCES';
  return 'EPERM';
}

async function runHelper(args: readonly string[], socket: number | undefined): Promise<Outcome> {
  for (const program of PROGRAMS) {
    const outcome = await run(program, args, socket);
    if (outcome !== undefined) return outcome;
  }
  throw new BlockError('ENOENT', 'Cannot run "fusermount3": it is not installed, the package "fuse3" has it');
}

/** Undefined when there is no such program. */
function run(
  program: string,
  args: readonly string[],
  socket: number | undefined,
): Promise<Outcome | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe', socket ?? 'ignore'],
      env: { ...process.env, ...(socket === undefined ? {} : { _FUSE_COMMFD: '3' }) },
    });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    });
    child.once('close', (code) => {
      resolve({ code, stderr });
    });
  });
}
