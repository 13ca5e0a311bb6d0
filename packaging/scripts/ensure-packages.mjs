import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Tools that tests and benchmarks use as judge and load, and the Debian package of each. */
export const TEST_TOOLS = {
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  fio: 'fio',
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_repair: 'xfsprogs',
  fusermount3: 'fuse3',
  losetup: 'mount',
  fstrim: 'util-linux',
  mandoc: 'mandoc',
  zsh: 'zsh',
  fish: 'fish',
  nbdkit: 'nbdkit',
  nbdcopy: 'libnbd-bin',
};

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
