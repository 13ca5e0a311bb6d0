/** Where messages go that are not for a terminal. */
import { openSync, writeSync } from 'node:fs';
import { fileError } from './file-error.ts';

/** A file that lines are added to for as long as the process lives; others may add to it too. */
export function openLogFile(path: string): (text: string) => void {
  const fd = openForAppending(path);
  return (text) => {
    writeSync(fd, text);
  };
}

function openForAppending(path: string): number {
  try {
    return openSync(path, 'a', 0o640);
  } catch (error) {
    throw fileError(`Cannot write log file "${path}"`, error);
  }
}
