import { readFile, stat } from 'node:fs/promises';
import { BlockError } from '../block/errors.ts';
import { fileError } from './file-error.ts';

const LARGEST = 1024 * 1024;

/** The text of a file that a person wrote. Rejects when there is none, or it is larger than any such file. */
export async function readTextFile(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size <= LARGEST) return await readFile(path, 'utf8');
  } catch (error) {
    throw fileError(`Cannot read "${path}"`, error);
  }
  throw new BlockError('EFBIG', `Cannot read "${path}": it is larger than ${LARGEST} bytes`, { path });
}
