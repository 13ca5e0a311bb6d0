import { readFile, stat, writeFile } from 'node:fs/promises';
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

/** Writes a file; one that is there is replaced unless it is one of `inUse`. */
export async function writeTextFile(path: string, text: string, inUse: readonly string[]): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  for (const other of there === undefined ? [] : inUse) {
    const known = await stat(other).catch(() => undefined);
    if (known?.dev !== there?.dev || known?.ino !== there?.ino) continue;
    throw new BlockError('EINVAL', `Cannot write "${path}": it is part of the image`, { path });
  }
  try {
    await writeFile(path, text);
  } catch (error) {
    throw fileError(`Cannot write "${path}"`, error);
  }
}
