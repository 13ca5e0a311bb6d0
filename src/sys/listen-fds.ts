import { fstatSync } from 'node:fs';
import { BlockError } from '../block/errors.ts';
import { isDescriptor } from './fdsets.ts';

const FIRST = 3;

/**
 * The descriptor that a text means: its number, or the name that the service manager gave it (LISTEN_FDS, LISTEN_FDNAMES).
 * Throws when it is not open.
 */
export function listenDescriptor(text: string): number {
  const fd = /^\d+$/.test(text) ? Number(text) : namedDescriptor(text);
  if (fd === undefined)
    throw new BlockError('EBADF', `Cannot use descriptor "${text}": LISTEN_FDNAMES has none of that name`);
  if (!isDescriptor(fd)) throw new BlockError('EBADF', `Cannot use descriptor ${text}: it is not open`);
  if (!fstatSync(fd).isSocket())
    throw new BlockError('EBADF', `Cannot use descriptor ${text}: it is not a socket`);
  return fd;
}

function namedDescriptor(name: string): number | undefined {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = process.env;
  if (Number(LISTEN_PID) !== process.pid) return undefined;
  const at = LISTEN_FDNAMES.split(':').indexOf(name);
  return at >= 0 && at < Number(LISTEN_FDS) ? FIRST + at : undefined;
}
