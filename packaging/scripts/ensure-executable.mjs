import { spawnSync } from 'node:child_process';
import { changed, newest, root } from './project.mjs';

const SOURCES = ['src', 'drivers', 'mount', 'packaging/executable', 'packaging/scripts'];

/** Packages out/blockfuse when a source is newer. */
export function ensureExecutable(node) {
  const packaged = changed(`${root}/out/blockfuse`);
  const sources = [...SOURCES.map((folder) => newest(`${root}/${folder}`)), changed(`${root}/package.json`)];
  if (packaged > Math.max(...sources)) return;
  const result = spawnSync(node, [`${root}/packaging/scripts/package.mjs`], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (result.status !== 0) throw new Error('The executable could not be made');
}
