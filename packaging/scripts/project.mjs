import { readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder of package.json, without a slash at the end. */
export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Milliseconds since 1970 of the last change of a file, 0 when there is none. */
export function changed(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** The newest change below a folder. */
export function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) latest = Math.max(latest, changed(`${entry.parentPath ?? entry.path}/${entry.name}`));
  }
  return latest;
}
