import { readFile } from 'node:fs/promises';
import { fileError } from './libc.ts';

/** The whole of a file that the user names, as text. */
export async function readTextFile(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw fileError(`Cannot read "${path}"`, error);
  });
}
