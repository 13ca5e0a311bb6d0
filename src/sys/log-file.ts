/** Where messages go that are not for a terminal. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { fileError } from './file-error.ts';

/** A file that lines are added to for as long as the process lives; others may add to it too. */
export class LogFile {
  private readonly path: string;
  private fd: number;
  /** Messages that found no room. */
  private lost = 0;

  /** Throws when it can't be written. */
  constructor(path: string) {
    this.path = path;
    this.fd = openForAppending(path);
  }

  /** Whole lines. Never throws: a full disk must not end what goes on. */
  add(text: string): void {
    const note = this.lost === 0 ? '' : `(${this.lost} messages could not be written)\n`;
    try {
      writeSync(this.fd, note + text);
      this.lost = 0;
    } catch {
      this.lost += 1;
    }
  }

  /** The file of that name from now on: the old one was renamed. Throws, and goes on with that one, when there can be none. */
  reopen(): void {
    const before = this.fd;
    this.fd = openForAppending(this.path);
    closeSync(before);
  }
}

function openForAppending(path: string): number {
  try {
    return openSync(path, 'a', 0o640);
  } catch (error) {
    throw fileError(`Cannot write log file "${path}"`, error);
  }
}
