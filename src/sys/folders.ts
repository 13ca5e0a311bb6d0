import { existsSync, readdirSync } from 'node:fs';
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

const DESCRIPTOR = 'DiskDescriptor.xml';

/** A folder that is one disk, a Parallels .hdd, is opened by its descriptor. Any other name stays as it is. */
export function descriptorOf(path: string): string {
  const descriptor = join(path, DESCRIPTOR);
  return existsSync(descriptor) ? descriptor : path;
}
