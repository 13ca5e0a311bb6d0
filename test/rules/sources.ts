import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Source {
  /** Relative to the root of the project. */
  readonly path: string;
  readonly text: string;
  /** What it imports, statically or not: paths relative to the root, or names of packages. */
  readonly imports: readonly string[];
}

/** Every TypeScript file below the folders that exist. */
export function sources(...folders: readonly string[]): Source[] {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
        .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
        .map((entry) => readSource(join(entry.parentPath, entry.name))),
    );
}

function readSource(file: string): Source {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(
    /^(?:import|export)\b[^'";]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm,
  );
  const names = [...found].map(([, from, bare, lazy]) => from ?? bare ?? lazy ?? '');
  const imports = names.map((name) =>
    name.startsWith('.') ? relative(root, join(dirname(file), name)) : name,
  );
  return { path: relative(root, file), text, imports };
}
