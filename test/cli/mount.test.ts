/** The command line from the outside: the built program, real mounts, qemu-img as the judge. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { blockfuse, mountImage, unmountImage } from '../helpers/command.ts';
import { Random } from '../helpers/random.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const SIZE = 4 * 2 ** 20;

/** A folder with a raw image of random bytes and an empty mountpoint. */
async function rawImage(t: ExecutionContext) {
  const folder = await tempDir(t);
  const [image, mountpoint] = [join(folder, 'disk one.raw'), join(folder, 'mnt')];
  const content = new Random(1).bytes(SIZE);
  await writeFile(image, content);
  await mkdir(mountpoint);
  return { folder, image, mountpoint, content, mountOptions: ['-f', 'raw'] };
}

async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status !== '' && !status.includes(') Z ');
}

/** The errno name that a promise is rejected with; 'none' when it is not. */
const errorCode = (promise: Promise<unknown>): Promise<string | undefined> =>
  promise.then(
    () => 'none',
    (error: NodeJS.ErrnoException) => error.code,
  );

const listed = async (): Promise<{ pid: number; mounts: { mountpoint: string; image: string }[] }[]> =>
  JSON.parse((await blockfuse(['list', '--json'])).stdout) as never;

test('mount on a directory: the disk is there when it returns, final when unmount returns', async (t) => {
  const { image, mountpoint, content, mountOptions } = await rawImage(t);
  const mount = await mountImage(t, image, mountpoint, mountOptions);
  t.is(mount.file, join(mountpoint, 'disk-one.raw'));
  t.deepEqual(await readdir(mountpoint), ['disk-one.raw']);
  t.true(content.equals(await readFile(mount.file)));
  t.is(await readFile(`/proc/${mount.pid}/comm`, 'utf8'), 'blockfuse\n');
  const again = await blockfuse(['mount', ...mountOptions, image, mountpoint]);
  t.is(again.code, 1);
  t.regex(again.stderr, new RegExp(`process ${mount.pid} \\(blockfuse\\)`));
  const entry = (await listed()).find(({ pid }) => pid === mount.pid);
  t.like(entry?.mounts[0], { mountpoint, image });
  t.regex(
    (await blockfuse(['list'])).stdout,
    new RegExp(`${mountpoint} .*disk-one +raw +read-write +${mount.pid}`),
  );

  const written = Buffer.alloc(70_000, 0x5a);
  const file = await open(mount.file, 'r+');
  await file.write(written, 0, written.length, 12_345);
  await file.close();
  await unmountImage(mountpoint);
  written.copy(content, 12_345);
  t.true(content.equals(await readFile(image)));
  t.false(await isAlive(mount.pid));
  t.deepEqual(await readdir(mountpoint), []);
  t.is(
    (await listed()).find(({ pid }) => pid === mount.pid),
    undefined,
  );
});

test('mount on a file: that file is the disk, the image itself included', async (t) => {
  const { folder, image, content, mountOptions } = await rawImage(t);
  const other = join(folder, 'other');
  await writeFile(other, 'before');
  const mount = await mountImage(t, image, other, mountOptions);
  t.is(mount.file, other);
  t.true(content.equals(await readFile(other)));
  await unmountImage(other);
  t.is(await readFile(other, 'utf8'), 'before');

  const window = JSON.stringify({ driver: 'raw', offset: 65536, file: { driver: 'file', filename: image } });
  await mountImage(t, `json:${window}`, image, ['--read-only']);
  t.true(content.subarray(65536).equals(await readFile(image)));
  await unmountImage(image);
  t.true(content.equals(await readFile(image)));
});

test('mount through a symbolic link, unmount by another name', async (t) => {
  const { folder, image, mountpoint, mountOptions } = await rawImage(t);
  const link = join(folder, 'link');
  await symlink(mountpoint, link);
  const mount = await mountImage(t, image, link, mountOptions);
  t.is(mount.mountpoint, mountpoint);
  const outcome = await blockfuse(['unmount', './link/'], { cwd: folder });
  t.is(outcome.code, 0, outcome.stderr);
  t.false(await isAlive(mount.pid));
});

test('read-only: writes get EROFS, by --read-only and by -o ro', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  for (const options of [['--read-only'], ['-o', 'ro,nofail,x-systemd.automount,node-name=a']]) {
    const mount = await mountImage(t, image, mountpoint, [...mountOptions, ...options]);
    t.is(await errorCode(open(mount.file, 'r+')), 'EROFS');
    await unmountImage(mountpoint);
  }
});

test('a file of fixed size does not grow, a growable one does', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  const fixed = await mountImage(t, image, mountpoint, [...mountOptions, '--detect-zeroes', 'on']);
  const file = await open(fixed.file, 'r+');
  t.is(await errorCode(file.write(Buffer.from('x'), 0, 1, SIZE)), 'ENOSPC');
  t.is(await errorCode(file.truncate(SIZE * 2)), 'EPERM');
  await file.close();
  await unmountImage(mountpoint);
  const growable = await mountImage(t, image, mountpoint, [...mountOptions, '--growable']);
  const wider = await open(growable.file, 'r+');
  await wider.truncate(SIZE * 2);
  await wider.write(Buffer.from('end'), 0, 3, SIZE * 3);
  await wider.close();
  await unmountImage(mountpoint);
  t.is((await stat(image)).size, SIZE * 3 + 3);
});

test('-o takes long options, fuse words and refuses the rest', async (t) => {
  const { image, mountpoint } = await rawImage(t);
  const mount = await mountImage(t, image, mountpoint, ['-o', 'format=raw,node_name=x1', '-o', 'noexec,rw']);
  t.is(mount.node, 'x1');
  t.regex(
    await readFile('/proc/self/mounts', 'utf8'),
    new RegExp(`${mountpoint} fuse.blockfuse [^ ]*noexec`),
  );
});

test('mount(8) style: blockfuse IMAGE DIRECTORY -o options', async (t) => {
  const { image, mountpoint } = await rawImage(t);
  t.teardown(() => blockfuse(['unmount', '--lazy', mountpoint]));
  const outcome = await blockfuse([image, mountpoint, '-o', 'rw,format=raw']);
  t.is(outcome.stdout, `${join(mountpoint, 'disk-one.raw')}\n`);
});

test('every cache mode serves the same bytes', async (t) => {
  const { image, mountpoint, content, mountOptions } = await rawImage(t);
  for (const mode of ['none', 'writeback', 'writethrough', 'directsync', 'unsafe']) {
    const { file } = await mountImage(t, image, mountpoint, [...mountOptions, '--cache', mode]);
    const patch = new Random(mode.length).bytes(10_000);
    const handle = await open(file, 'r+');
    await handle.write(patch, 0, patch.length, 4_001);
    await handle.sync();
    await handle.close();
    patch.copy(content, 4_001);
    t.true(content.equals(await readFile(file)), mode);
    await unmountImage(mountpoint);
    t.true(content.equals(await readFile(image)), mode);
  }
});

const failing = test.macro(
  async (t, args: readonly string[], expected: { code: number; stderr: RegExp; json?: boolean }) => {
    const { folder, image, mountpoint } = await rawImage(t);
    const given = args.map((arg) => arg.replace('IMAGE', image).replace('DIR', mountpoint));
    const outcome = await blockfuse(given, { cwd: folder });
    t.is(outcome.code, expected.code);
    t.regex(outcome.stderr, expected.stderr);
    t.is(outcome.stdout, '');
    if (expected.json === true) t.truthy(JSON.parse(outcome.stderr));
    t.false((await listed()).some(({ mounts }) => mounts.some((mount) => mount.image === image)));
    t.deepEqual(await readdir(mountpoint), []);
  },
);

test('no such image', failing, ['mount', 'nix', 'DIR'], {
  code: 1,
  stderr: /^blockfuse: Cannot open ".*\/nix".*no such file/,
});
test('no such mountpoint', failing, ['mount', 'IMAGE', 'nix'], {
  code: 1,
  stderr: /Cannot mount at ".*nix": there is no such/,
});
test('an image that is a directory', failing, ['mount', '.', 'DIR'], {
  code: 1,
  stderr: /^blockfuse: Cannot open/,
});
test('errors as JSON', failing, ['mount', '--json', 'nix', 'DIR'], {
  code: 1,
  stderr: /"code":"ENOENT"/,
  json: true,
});
test('unknown format', failing, ['mount', '-f', 'xyz', 'IMAGE', 'DIR'], {
  code: 1,
  stderr: /unknown driver "xyz", known are .*raw/,
});
test('wrong format', failing, ['mount', '-f', 'luks', 'IMAGE', 'DIR'], {
  code: 1,
  stderr: /^blockfuse: Cannot/,
});
test('unknown option', failing, ['mount', '--nix', 'IMAGE', 'DIR'], {
  code: 2,
  stderr: /unknown option '--nix'/,
});
test('unknown mount option', failing, ['mount', '-o', 'a=1', 'IMAGE', 'DIR'], {
  code: 2,
  stderr: /unknown mount option "a=1"/,
});
test('wrong value', failing, ['mount', '--cache', 'x', 'IMAGE', 'DIR'], {
  code: 2,
  stderr: /--cache is "x", must be one of/,
});
test('wrong node name', failing, ['mount', '--node-name', '1x', 'IMAGE', 'DIR'], {
  code: 2,
  stderr: /node name "1x" must start with a letter/,
});
test('missing argument', failing, ['mount', 'IMAGE'], {
  code: 2,
  stderr: /missing required argument 'mountpoint'/,
});
test('unknown command', failing, ['mout', 'IMAGE', 'DIR'], {
  code: 2,
  stderr: /unknown command 'mout'[^]*mount/,
});
test('no JSON', failing, ['mount', 'json:{', 'DIR'], { code: 2, stderr: /not valid JSON/ });
test(
  'unknown node option',
  failing,
  ['mount', 'json:{"driver": "raw", "file.filename": "IMAGE", "nix": 1}', 'DIR'],
  { code: 1, stderr: /driver "raw" has no option "nix"/ },
);
test(
  'pid file that cannot be written',
  failing,
  ['mount', '-f', 'raw', '--pid-file', 'nix/x', 'IMAGE', 'DIR'],
  { code: 1, stderr: /Cannot write pid file/ },
);
test('unmount of what is no mount', failing, ['unmount', 'DIR'], {
  code: 1,
  stderr: /Cannot unmount ".*": it is no mountpoint/,
});
test('unmount of a mount of others', failing, ['unmount', '/proc'], {
  code: 1,
  stderr: /a mount of type proc/,
});

test('a mount in use is not unmounted, and who uses it is told; --lazy detaches it', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  const mount = await mountImage(t, image, mountpoint, mountOptions);
  const user = spawn('sleep', ['infinity'], { cwd: mountpoint, stdio: 'ignore' });
  t.teardown(() => user.kill('SIGKILL'));
  await once(user, 'spawn');
  const refused = await blockfuse(['unmount', mountpoint]);
  t.is(refused.code, 1);
  t.regex(refused.stderr, new RegExp(`in use by sleep \\(pid ${user.pid}\\)`));
  t.is((await stat(mount.file)).size, SIZE);
  const file = await open(mount.file);
  t.teardown(() => file.close().catch(() => undefined));
  const lazy = await blockfuse(['unmount', '--lazy', mountpoint]);
  t.is(lazy.code, 0, lazy.stderr);
  t.false(await isAlive(mount.pid));
  t.deepEqual(await readdir(mountpoint), []);
});

test('SIGTERM, SIGINT and umount end a server cleanly', async (t) => {
  const { folder, image, mountpoint, mountOptions } = await rawImage(t);
  const pidFile = join(folder, 'pid');
  for (const way of ['SIGTERM', 'SIGINT', 'umount', 'SIGTERM while in use'] as const) {
    const { pid, file } = await mountImage(t, image, mountpoint, [...mountOptions, '--pid-file', pidFile]);
    t.is(Number(await readFile(pidFile, 'utf8')), pid);
    const handle = await open(file, 'r+');
    await handle.write(Buffer.from(way), 0, way.length, 0);
    if (!way.endsWith('in use')) await handle.close();
    if (way === 'umount') await run('umount', [mountpoint]);
    else process.kill(pid, way === 'SIGINT' ? 'SIGINT' : 'SIGTERM');
    await until(async () => !(await isAlive(pid)), `the end after ${way}`);
    if (way.endsWith('in use')) await handle.close().catch(() => undefined);
    t.deepEqual(await readdir(mountpoint), [], way);
    t.false(existsSync(pidFile), way);
    t.is((await readFile(image)).toString('latin1', 0, way.length), way);
    t.is(
      (await listed()).find((server) => server.pid === pid),
      undefined,
    );
  }
});

test('a mount whose server was killed is cleared away', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  const { pid } = await mountImage(t, image, mountpoint, mountOptions);
  process.kill(pid, 'SIGKILL');
  while (await isAlive(pid)) await sleep(10);
  await t.throwsAsync(readdir(mountpoint), { code: 'ENOTCONN' });
  t.is(
    (await listed()).find((server) => server.pid === pid),
    undefined,
  );
  const outcome = await blockfuse(['unmount', mountpoint]);
  t.is(outcome.code, 0);
  t.regex(outcome.stderr, /its server .* gone already/);
  t.deepEqual(await readdir(mountpoint), []);
});

test('--foreground serves until the mount ends', async (t) => {
  const { image, mountpoint, content, mountOptions } = await rawImage(t);
  t.teardown(() => blockfuse(['unmount', '--lazy', mountpoint]));
  const server = blockfuse(['mount', '--foreground', ...mountOptions, image, mountpoint]);
  const file = join(mountpoint, 'disk-one.raw');
  while (!existsSync(file)) await sleep(20);
  t.true(content.equals(await readFile(file)));
  await unmountImage(mountpoint);
  const { code, stdout } = await server;
  t.is(code, 0);
  t.is(stdout, `${file}\n`);
});

test.serial('the time from start to ready is told', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  const times: number[] = [];
  for (let tries = 0; tries < 5; tries += 1) {
    const start = performance.now();
    await mountImage(t, image, mountpoint, mountOptions);
    times.push(performance.now() - start);
    await unmountImage(mountpoint);
  }
  t.log(`ready after ${times.map(Math.round).join(', ')} ms`);
  t.is(times.length, 5);
});

test('the control socket speaks QMP to its owner alone', async (t) => {
  const { image, mountpoint, mountOptions } = await rawImage(t);
  const { pid } = await mountImage(t, image, mountpoint, mountOptions);
  const entry = (await listed()).find((server) => server.pid === pid) as { socket?: string } | undefined;
  const path = entry?.socket ?? '';
  t.is((await stat(path)).mode & 0o777, 0o600);
  const socket = connect(path);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const ask = async (request: object): Promise<unknown> => {
    socket.write(JSON.stringify(request));
    return JSON.parse((await lines.next()).value as string);
  };
  t.like(JSON.parse((await lines.next()).value as string), { QMP: { capabilities: ['oob'] } });
  t.deepEqual(await ask({ execute: 'qmp_capabilities' }), { return: {} });
  t.like(await ask({ execute: 'query-status', id: 1 }), { return: { status: 'running' }, id: 1 });
  t.like(await ask({ execute: 'x-blockfuse-info' }), { return: { pid, disk: { size: SIZE } } });
  t.deepEqual(await ask({ execute: 'quit' }), { return: {} });
  while (await isAlive(pid)) await sleep(10);
  t.deepEqual(await readdir(mountpoint), []);
});

test('--allow-other lets others in, with the mode of the image', async (t) => {
  if (!isRoot(t) || !canRun(t, 'setpriv')) return;
  const { folder, image, mountpoint, content, mountOptions } = await rawImage(t);
  await chmod(folder, 0o755);
  await chmod(image, 0o644);
  for (const mode of ['off', 'on', 'auto']) {
    const { file } = await mountImage(t, image, mountpoint, [...mountOptions, '--allow-other', mode]);
    const other = ['--reuid=65534', '--regid=65534', '--clear-groups', 'sha256sum', file];
    const { code, stdout } = await attempt('setpriv', other);
    if (mode === 'off') t.not(code, 0);
    else t.is(stdout.split(' ')[0], createHash('sha256').update(content).digest('hex'), mode);
    t.is((await stat(file)).mode & 0o777, mode === 'off' ? 0o600 : 0o644);
    await unmountImage(mountpoint);
  }
});

/** In a namespace of its own, where everybody may use /dev/fuse, as user and group 65534. */
const AS_USER = `set -e
  mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse
  user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
  user "$2" "$3" mount -f raw "$1/disk one.raw" "$1/mnt"
  cat "$1/mnt/disk-one.raw" 2>/dev/null && exit 9
  user cat "$1/mnt/disk-one.raw" | sha256sum
  user dd if=/dev/zero "of=$1/mnt/disk-one.raw" bs=4096 count=1 conv=notrunc status=none
  user "$2" "$3" unmount "$1/mnt"
  rmdir /tmp/blockfuse-65534 2>/dev/null || : in use by another test`;

test('an ordinary user mounts through fusermount3, for himself alone', async (t) => {
  if (!isRoot(t) || !canRun(t, 'unshare', 'setpriv', 'fusermount3')) return;
  const { folder, image, content } = await rawImage(t);
  await run('chown', ['-R', '65534:65534', folder]);
  await chmod(folder, 0o755);
  const bundle = join(import.meta.dirname, '../../dist/blockfuse.js');
  const given = ['sh', folder, process.execPath, bundle];
  const { stdout } = await run('unshare', ['-m', 'sh', '-c', AS_USER, ...given]);
  t.is(
    stdout,
    `${join(folder, 'mnt', 'disk-one.raw')}\n${createHash('sha256').update(content).digest('hex')}  -\n`,
  );
  content.fill(0, 0, 4096);
  t.true(content.equals(await readFile(image)));
});
