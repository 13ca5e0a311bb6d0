import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { ExecutionContext } from 'ava';
import { skip } from './tools.ts';

const FOLDER = fileURLToPath(new URL('../../../shared/samples/', import.meta.url));

/** Bytes of a sample image (unpacked when it is kept as .gz). Undefined, the test skipped loudly, when it is not there. */
export function sample(t: ExecutionContext, name: string): Buffer | undefined {
  const plain = join(FOLDER, name);
  if (existsSync(plain)) return readFileSync(plain);
  if (existsSync(`${plain}.gz`)) return gunzipSync(readFileSync(`${plain}.gz`));
  skip(t, `sample image ${name} is not here (looked in ../shared/samples)`);
  return undefined;
}

/** Puts a writable copy of a sample into a folder of the test; undefined, skipped loudly, when there is no such sample. */
export async function copySample(
  t: ExecutionContext,
  name: string,
  folder: string,
): Promise<string | undefined> {
  const bytes = sample(t, name);
  if (bytes === undefined) return undefined;
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}
