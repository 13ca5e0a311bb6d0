import { readFileSync } from 'node:fs';
import { fileError } from './libc.ts';

/** The bytes of a file that holds a passphrase or key. */
export function readSecretFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError(`Cannot read secret "${path}"`, error);
  }
}
