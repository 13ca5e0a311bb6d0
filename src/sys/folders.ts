import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Full names of what lies in the folder of `filename`, sorted; nothing where the folder can't be read. */
export function siblings(filename: string): readonly string[] {
  const folder = dirname(filename);
  try {
    return readdirSync(folder)
      .sort()
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
