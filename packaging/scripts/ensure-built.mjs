import { spawnSync } from 'node:child_process';
import { changed, newest, root } from './project.mjs';

const SOURCES = ['src', 'drivers', 'mount'];

/** Builds dist/ when a source is newer. */
export function ensureBuilt(node) {
  const built = changed(`${root}/dist/blockfuse.js`);
  const sources = [...SOURCES.map((folder) => newest(`${root}/${folder}`)), changed(`${root}/package.json`)];
  if (built > Math.max(...sources)) return;
  const result = spawnSync(node, [`${root}/packaging/scripts/build.mjs`], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (result.status !== 0) throw new Error('The build failed');
}
