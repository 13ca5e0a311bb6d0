import { closeSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileError } from './file-error.ts';

let count = 0;

export interface TemporaryFile {
  readonly path: string;
  /** Takes the name away; whoever has the file open keeps it. */
  remove(): void;
}

/** An empty file that only its owner may open, in the folder that TMPDIR names. */
export function makeTemporaryFile(ending: string): TemporaryFile {
  count += 1;
  const path = `${tmpdir()}/blockfuse-${process.pid}-${count}-${Date.now().toString(36)}${ending}`;
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    throw fileError(`Cannot create "${path}"`, error);
  }
  return {
    path,
    remove: () => {
      rmSync(path, { force: true });
    },
  };
}
