/**
 * What is handed out: the npm package, the executable and the Debian package. Under BLOCKFUSE_SOAK=1 each is installed on a
 * clean Debian (debootstrap) and does the main job there.
 */
import { copyFile, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { executable } from '../helpers/executable.ts';
import { program } from '../helpers/program.ts';
import { isSoak } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MINUTES = 60_000;

/** Packs the project as `npm pack` does, into `folder`; returns the file. */
async function pack(folder: string): Promise<string> {
  program();
  await run(process.execPath, [join(ROOT, 'packaging/reference/write.ts')]);
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: ROOT });
  const [name = ''] = await readdir(folder);
  return join(folder, name);
}

test('the npm package holds the program, its manual and completions, and nothing else', async (t) => {
  if (!canRun(t, 'npm', 'tar')) return;
  const file = await pack(await tempDir(t));
  const { stdout } = await run('tar', ['tzf', file]);
  const paths = stdout.trim().split('\n');
  const expected = [
    ...['package.json', 'README.md', 'LICENSE', 'dist/blockfuse.js', 'dist/LICENSES.txt'],
    ...['dist/share/man/man1/blockfuse.1', 'dist/share/man/man1/blockfuse-mount.1'],
    ...['dist/share/man/man7/blockfuse-drivers.7', 'dist/share/man/man8/mount.fuse.blockfuse.8'],
    ...['bash-completion/completions/blockfuse', 'zsh/vendor-completions/_blockfuse'].map(
      (path) => `dist/share/${path}`,
    ),
  ];
  for (const path of expected) t.true(paths.includes(`package/${path}`), path);
  const known =
    /^package\/(package\.json|README\.md|LICENSE|dist\/(blockfuse\.js|LICENSES\.txt|chunks\/[^/]+\.js|share\/.+))$/;
  t.deepEqual(
    paths.filter((path) => !known.test(path)),
    [],
  );
});

/** What everybody wants first: the disk of an image as a file, written, and the image final after the unmount. */
const MAIN_JOB = `
  blockfuse create disk.qcow2 64M
  mkdir -p mnt
  test "$(blockfuse mount disk.qcow2 mnt)" = /work/mnt/disk.raw
  echo hello | dd of=mnt/disk.raw conv=notrunc bs=1M seek=5 2>/dev/null
  blockfuse list | grep -q /work/mnt
  blockfuse unmount mnt
  test ! -e mnt/disk.raw
  blockfuse check disk.qcow2
  blockfuse mount -r disk.qcow2 mnt -q
  test "$(dd if=mnt/disk.raw bs=1M skip=5 count=1 2>/dev/null | head -n 1)" = hello
  blockfuse unmount mnt
`;

interface CleanRoot {
  /** The root directory of the system. */
  readonly path: string;
  /** Runs a script in it, in /work; every line must succeed. */
  run(script: string): Promise<Outcome>;
}

let debian: Promise<string> | undefined;

test.after.always(async () => {
  if (debian !== undefined) await rm(await debian, { recursive: true, force: true });
});

/** Made once; the tests work on copies. */
async function makeDebian(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'blockfuse-debian-'));
  await run('debootstrap', ['--variant=minbase', 'stable', path], { timeout: 10 * MINUTES });
  return path;
}

/** Everything is mounted in a mount namespace that ends with the script. */
const ENTER = `
  mount -t proc proc "$1/proc" && mount -t tmpfs none "$1/dev" && mkdir "$1/dev/shm" || exit 99
  for device in fuse null zero urandom; do touch "$1/dev/$device" && mount --bind /dev/$device "$1/dev/$device"; done
  exec chroot "$1" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -exc "cd /work; $2"
`;

async function cleanRoot(t: ExecutionContext): Promise<CleanRoot> {
  t.timeout(20 * MINUTES);
  const path = join(await tempDir(t), 'root');
  await run('cp', ['-a', await (debian ??= makeDebian()), path]);
  await mkdir(join(path, 'work'));
  return {
    path,
    run: async (script) => {
      const outcome = await attempt('unshare', ['-m', 'sh', '-c', ENTER, 'sh', path, script], {
        timeout: 5 * MINUTES,
      });
      t.is(outcome.code, 0, outcome.stdout + outcome.stderr);
      return outcome;
    },
  };
}

/** The image that the main job left, judged by another program. */
async function judge(t: ExecutionContext, root: CleanRoot): Promise<void> {
  const image = join(root.path, 'work/disk.qcow2');
  await run('qemu-img', ['check', '-q', image]);
  const { stdout } = await run('qemu-io', ['-r', '-c', 'read -v 5M 512', image]);
  t.regex(stdout, /68 65 6c 6c 6f 0a/);
}

const onCleanRoot = test.macro(async (t, install: (root: CleanRoot) => Promise<void>, job: string) => {
  if (!canRun(t, 'debootstrap', 'qemu-img', 'qemu-io', 'dpkg-deb', 'npm', 'unshare', 'chroot') || !isRoot(t))
    return;
  const root = await cleanRoot(t);
  await install(root);
  await root.run(job);
  await judge(t, root);
});

async function installExecutable(root: CleanRoot): Promise<void> {
  await copyFile(await executable(), join(root.path, 'usr/local/bin/blockfuse'));
}

/** With the Node that it needs, which Debian's is too old for. */
async function installNpmPackage(root: CleanRoot): Promise<void> {
  const file = await pack(await mkdtemp(join(root.path, 'tmp/pack-')));
  const args = [
    'install',
    '--global',
    '--prefix',
    join(root.path, 'usr/local'),
    '--no-audit',
    '--no-fund',
    file,
  ];
  await run('npm', args, { timeout: 5 * MINUTES });
  await copyFile(process.execPath, join(root.path, 'usr/local/bin/node'));
}

async function installDebianPackage(root: CleanRoot): Promise<void> {
  await executable();
  await run(process.execPath, [join(ROOT, 'packaging/scripts/deb.mjs')], { timeout: 5 * MINUTES });
  const name = (await readdir(join(ROOT, 'out'))).find((file) => file.endsWith('.deb')) ?? '';
  await copyFile(join(ROOT, 'out', name), join(root.path, 'work/blockfuse.deb'));
  await root.run('dpkg -i blockfuse.deb');
}

/** What the package brings beside the program. */
const DEBIAN_JOB = `
  ${MAIN_JOB}
  mount -t fuse.blockfuse /work/disk.qcow2 /work/mnt -o ro,nofail
  test -f mnt/disk.raw
  umount mnt
  echo '/work/disk.qcow2 /work/mnt fuse.blockfuse defaults,format=qcow2,_netdev 0 0' > fstab
  mount -a -T fstab
  test -f mnt/disk.raw
  blockfuse unmount mnt
  for page in man1/blockfuse.1 man1/blockfuse-mount.1 man7/blockfuse-drivers.7 man8/mount.fuse.blockfuse.8; do
    zcat /usr/share/man/$page.gz | grep -q SYNOPSIS || zcat /usr/share/man/$page.gz | grep -q DESCRIPTION
  done
  test -f /usr/share/bash-completion/completions/blockfuse
  test -f /usr/lib/systemd/system/blockfuse@.service
  dpkg --verify blockfuse
  dpkg --purge blockfuse
  test ! -e /usr/bin/blockfuse
  test ! -e /etc/blockfuse
  test ! -e /usr/sbin/mount.fuse.blockfuse
`;

if (isSoak()) {
  test.serial('the executable does its job on a clean system', onCleanRoot, installExecutable, MAIN_JOB);
  test.serial('the npm package does its job on a clean system', onCleanRoot, installNpmPackage, MAIN_JOB);
  test.serial(
    'the Debian package does its job on a clean system',
    onCleanRoot,
    installDebianPackage,
    DEBIAN_JOB,
  );
}
