import { realpathSync } from 'node:fs';
import path from 'node:path';

/** The path with every link followed, as far as there is something of that name. */
export function realPath(name: string): string {
  try {
    return realpathSync(name);
  } catch {
    const folder = path.dirname(name);
    return folder === name ? name : path.join(realPath(folder), path.basename(name));
  }
}
