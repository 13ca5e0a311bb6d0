import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileError } from './file-error.ts';

/** Writes this process's id, whole or not at all. */
export function writePidFile(path: string): void {
  try {
    writeFileSync(`${path}.${process.pid}`, `${process.pid}\n`);
    renameSync(`${path}.${process.pid}`, path);
  } catch (error) {
    rmSync(`${path}.${process.pid}`, { force: true });
    throw fileError(`Cannot write pid file "${path}"`, error);
  }
}

/** Removes the file if it still names this process. */
export function removePidFile(path: string): void {
  try {
    if (readFileSync(path, 'utf8').trim() === String(process.pid)) rmSync(path, { force: true });
  } catch {
    // Gone or replaced: not ours any more.
  }
}
