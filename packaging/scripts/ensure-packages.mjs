import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { root } from './project.mjs';

/** Programs that tests and benchmarks use as judge and load, and the Debian package of each. */
export const TEST_TOOLS = JSON.parse(readFileSync(`${root}/packaging/test-tools.json`, 'utf8'));

const FOLDERS = [
  ...new Set([...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin']),
];
const isThere = (tool) => FOLDERS.some((folder) => existsSync(`${folder}/${tool}`));

/** Installs the packages of the tools that are missing when it can (root on Debian), else names them and goes on. */
export function ensurePackages(tools) {
  const missing = Object.keys(tools).filter((tool) => !isThere(tool));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tools[tool]))];
  if (process.getuid() !== 0 || !isThere('apt-get')) {
    console.error(`Tests that need ${missing.join(', ')} will be skipped; install: ${packages.join(' ')}`);
    return;
  }
  console.error(`Installing for the tests: ${packages.join(' ')} ...`);
  apt(['update']);
  if (apt(['install', '-y', '--no-install-recommends', ...packages])) return;
  console.error('Not all could be installed; tests that need them will be skipped');
}

/** As an ordinary user a mount goes through fusermount3; root needs nothing. */
export function warnWithoutFusermount() {
  if (process.getuid() === 0 || isThere('fusermount3')) return;
  console.error('Mounting as an ordinary user needs fusermount3: install the package fuse3, or run as root');
}

function apt(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('apt-get', ['-qq', ...args], { stdio: ['ignore', 'ignore', 2], env }).status === 0;
}
