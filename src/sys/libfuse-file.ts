import { createRequire } from 'node:module';
import path from 'node:path';

/** Hands the path of the libfuse that lies inside the package fuse-native to `load`. */
export function withLibfuse(load: (path: string) => void): void {
  const folder = path.dirname(createRequire(import.meta.url).resolve('fuse-native/package.json'));
  load(path.join(folder, 'prebuilds', `linux-${process.arch}`, 'libfuse.so'));
}
