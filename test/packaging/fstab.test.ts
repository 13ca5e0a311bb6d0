/**
 * mount(8) and fstab, with the helper lying in /sbin under the name that mount(8) looks for. Everything happens in a mount
 * namespace of the test's own.
 */
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { helperCommand, isMountHelper } from '../../src/cli/mount-helper.ts';
import { parseFuseStyle } from '../../src/cli/mount-options.ts';
import { mountCommand } from '../../src/cli/mount.ts';
import { program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, skip } from '../helpers/tools.ts';

/** Runs a script where `mount -t fuse.blockfuse` works; in it $D is a folder with disk.qcow2 and the empty folder mnt. */
async function mountScript(t: ExecutionContext, script: string): Promise<Outcome | undefined> {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'unshare') || !isRoot(t)) return undefined;
  const folder = await tempDir(t);
  for (const name of ['sbin', 'mnt', 'other']) await mkdir(join(folder, name));
  // mount(8) clears PATH, and the development's Node is not in the system's.
  await symlink(program(), join(folder, 'mount.fuse.blockfuse'));
  const helper = join(folder, 'sbin/mount.fuse.blockfuse');
  await writeFile(helper, `#!/bin/sh\nexec ${process.execPath} ${folder}/mount.fuse.blockfuse "$@"\n`);
  await chmod(helper, 0o755);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'disk.qcow2'), '16M']);
  await run('qemu-io', ['-c', 'write -P 3 0 64k', join(folder, 'disk.qcow2')]);
  const env = { ...process.env, D: folder };
  const inside = `mount -t overlay -o lowerdir=$D/sbin:/usr/sbin overlay /usr/sbin || exit 99\n${script}`;
  const outcome = await attempt('unshare', ['-m', 'sh', '-c', inside], { env });
  if (outcome.code !== 99) return outcome;
  skip(t, 'overlay file systems do not work here');
  return undefined;
}

test('mount -t fuse.blockfuse mounts through the helper', async (t) => {
  const outcome = await mountScript(
    t,
    `
    mount -v -t fuse.blockfuse $D/disk.qcow2 $D/mnt -o ro,format=qcow2,nofail,_netdev,x-systemd.automount,noauto,user || exit 1
    grep " $D/mnt " /proc/self/mounts
    ls $D/mnt
    head -c 2 $D/mnt/disk.raw | od -An -tx1
    umount $D/mnt
  `,
  );
  if (outcome === undefined) return;
  t.is(outcome.code, 0, outcome.stderr);
  t.regex(outcome.stdout, /^\S+disk\.qcow2 \S+\/mnt fuse\.blockfuse ro,nosuid,nodev,noexec,/m);
  t.regex(outcome.stdout, /^disk\.raw$/m);
  t.regex(outcome.stdout, /^ 03 03$/m);
});

test('lines of fstab are mounted by mount -a, once, and unmounted', async (t) => {
  const outcome = await mountScript(
    t,
    `
    qemu-img create -q -f qcow2 $D/two.qcow2 1M
    echo "$D/disk.qcow2 $D/mnt fuse.blockfuse defaults,node-name=n,nofail,x-systemd.requires=a,comment=b 0 0" > $D/fstab
    echo "$D/two.qcow2 $D/other fuse.blockfuse rw,read_only,discard=ignore,_netdev 0 0" >> $D/fstab
    echo "$D/missing.qcow2 $D/other fuse.blockfuse noauto 0 0" >> $D/fstab
    mount -a -T $D/fstab || exit 1
    ls $D/mnt $D/other
    mount -a -T $D/fstab || exit 2
    grep -c ' '$D/ /proc/self/mounts
    umount $D/mnt $D/other
    grep -c ' '$D/ /proc/self/mounts
  `,
  );
  if (outcome === undefined) return;
  t.regex(outcome.stdout, /^n\.raw$/m);
  t.regex(outcome.stdout, /^two\.raw$/m);
  t.regex(outcome.stdout, /\n2\n0\n$/);
});

test('what mount(8) can not do is told, with its exit code', async (t) => {
  const outcome = await mountScript(
    t,
    `
    mount -t fuse.blockfuse -o bogus $D/disk.qcow2 $D/mnt; echo "bogus $?"
    mount -t fuse.blockfuse $D/missing.qcow2 $D/mnt; echo "missing $?"
    mount -f -t fuse.blockfuse $D/disk.qcow2 $D/mnt; echo "fake $?"
    ls $D/mnt
  `,
  );
  if (outcome === undefined) return;
  t.regex(outcome.stderr, /unknown mount option "bogus"/);
  t.regex(outcome.stderr, /^blockfuse: Cannot open ".*missing\.qcow2"/m);
  t.is(outcome.stdout, 'bogus 2\nmissing 1\nfake 0\n');
});

test('mount.fuse3 works without the helper of our own', async (t) => {
  if (!canRun(t, 'mount.fuse3')) return;
  const outcome = await mountScript(
    t,
    `
    mkdir $D/bin && printf '#!/bin/sh\\nexec ${process.execPath} ${program()} "$@"\\n' > $D/bin/blockfuse && chmod +x $D/bin/blockfuse
    PATH=$D/bin:$PATH mount.fuse3 blockfuse#$D/disk.qcow2 $D/mnt -o ro,allow_other,nofail || exit 1
    ls $D/mnt && umount $D/mnt
  `,
  );
  if (outcome === undefined) return;
  t.is(outcome.code, 0, outcome.stderr);
  t.regex(outcome.stdout, /^disk\.raw$/m);
});

test('the helper goes by its name, and drops what is for mount(8)', (t) => {
  for (const name of ['/sbin/mount.fuse.blockfuse', 'mount.blockfuse']) t.true(isMountHelper(name));
  for (const name of ['/usr/bin/blockfuse', 'mount.fuse', 'blockfuse.js', '']) t.false(isMountHelper(name));
  const plain = ['mount', '--quiet', 'disk', '/mnt', '-o', 'ro'];
  t.deepEqual(helperCommand(['disk', '/mnt', '-sn', '-v', '-o', 'ro']), plain);
  t.deepEqual(
    helperCommand(['disk', '/mnt', '-N', '/proc/1/ns/mnt', '-t', 'fuse.blockfuse', '-o', 'ro']),
    plain,
  );
  t.is(helperCommand(['disk', '/mnt', '-f']), undefined);
});

test('words of fstab, mount(8) and systemd are left to them', (t) => {
  const words = [
    ...[
      '_netdev',
      'nofail',
      'defaults',
      'auto',
      'noauto',
      'user',
      'user=bob',
      'users',
      'nouser',
      'owner',
      'group',
    ],
    ...[
      'x-systemd.automount',
      'x-gvfs-hide',
      'X-mount.mkdir',
      'comment=systemd.automount',
      'relatime',
      'lazytime',
    ],
  ];
  t.deepEqual(parseFuseStyle(mountCommand.options, [words.join(',')]), { values: {}, words });
  const own = parseFuseStyle(mountCommand.options, ['ro,format=qcow2', 'node_name=n,allow_other']);
  t.deepEqual(own.words, ['ro']);
  t.deepEqual(own.values, { 'read-only': true, format: 'qcow2', 'node-name': 'n', 'allow-other': 'on' });
  const lists = parseFuseStyle(mountCommand.options, [
    'options=l2-cache-size=1M',
    'options=lazy-refcounts=on',
  ]);
  t.deepEqual(lists.values['options'], [
    { text: 'l2-cache-size=1M', order: 0 },
    { text: 'lazy-refcounts=on', order: 1 },
  ]);
  t.throws(() => parseFuseStyle(mountCommand.options, ['remount']), {
    message: 'unknown mount option "remount"',
  });
});
