import { readFileSync } from 'node:fs';
import { fileError } from './file-error.ts';

/** The bytes of a file, or of a descriptor of this process, that holds a passphrase or key. */
export function readSecretFile(path: string | number): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError(`Cannot read secret "${path}"`, error);
  }
}
