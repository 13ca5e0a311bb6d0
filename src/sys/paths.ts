import { realpathSync } from 'node:fs';

/** The path with every link followed; the path itself where there is nothing of that name. */
export function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
