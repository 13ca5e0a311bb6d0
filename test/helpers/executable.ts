import { existsSync, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './run.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['src', 'drivers', 'mount', 'packaging/executable', 'packaging/scripts'];

/** out/blockfuse, packaged first when a source is newer: that takes seconds. */
export async function executable(): Promise<string> {
  const program = join(ROOT, 'out/blockfuse');
  const packaged = existsSync(program) ? statSync(program).mtimeMs : 0;
  if (packaged < (await newestSource())) {
    await run(process.execPath, [join(ROOT, 'packaging/scripts/package.mjs')], { timeout: 300_000 });
  }
  return program;
}

async function newestSource(): Promise<number> {
  let newest = (await stat(join(ROOT, 'package.json'))).mtimeMs;
  for (const folder of SOURCES) {
    const entries = await readdir(join(ROOT, folder), { withFileTypes: true, recursive: true });
    for (const entry of entries.filter((one) => one.isFile())) {
      newest = Math.max(newest, (await stat(join(entry.parentPath, entry.name))).mtimeMs);
    }
  }
  return newest;
}
