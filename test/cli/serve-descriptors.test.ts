/** A server that may open no image by name: descriptors handed over at start, and over the control socket. */
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { QmpClient, serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';

/** In a namespace of its own, where everybody may use /dev/fuse, as user and group 65534. $1 folder, $2 node, $3 program. */
const AS_USER = `set -e
  cd "$1"
  mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse
  user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
  user cat disk.qcow2 2>/dev/null && exit 9
  exec 5<>disk.qcow2 6<base.raw
  user "$2" "$3" serve --daemonize --pidfile mine/pid --follow "$4" \\
    --add-fd fd=5,set=1,opaque=disk --add-fd fd=6,set=2 \\
    --blockdev "driver=qcow2,node-name=n0,file.driver=file,file.filename=/dev/fdset/1$5" \\
    --export fuse,id=e0,node-name=n0,mountpoint=mine/mnt,writable=on
  exec 5>&- 6>&-
  user cat mine/mnt/n0.raw | sha256sum
  user sh -c 'printf world | dd of=mine/mnt/n0.raw bs=5 conv=notrunc,fsync status=none'
  ! qemu-img check -q disk.qcow2 2>/dev/null
  pid=$(cat mine/pid)
  kill "$pid"
  while [ -e mine/pid ]; do sleep 0.02; done
  user ls /tmp/blockfuse-65534 | grep -c . || rmdir /tmp/blockfuse-65534`;

async function images(t: ExecutionContext): Promise<string> {
  const folder = await tempDir(t);
  await chmod(folder, 0o755);
  await mkdir(join(folder, 'mine'));
  await mkdir(join(folder, 'mine', 'mnt'));
  await run('chown', ['-R', '65534:65534', join(folder, 'mine')]);
  await writeFile(join(folder, 'base.raw'), Buffer.alloc(1 << 20, 'hello'), { mode: 0o600 });
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'disk.qcow2'], {
    cwd: folder,
  });
  await chmod(join(folder, 'disk.qcow2'), 0o600);
  return folder;
}

function asUser(folder: string, backing: string) {
  const given = ['sh', folder, process.execPath, program(), 'rooted', backing];
  return attempt('unshare', ['-m', 'sh', '-c', AS_USER, ...given]);
}

test('a user who may not open the images serves them by their descriptors, the backing file included', async (t) => {
  if (!isRoot(t) || !canRun(t, 'unshare', 'setpriv', 'fusermount3', 'qemu-img')) return;
  const folder = await images(t);
  const backing = ',backing.driver=raw,backing.file.driver=file,backing.file.filename=/dev/fdset/2';
  const { code, stdout, stderr } = await asUser(folder, backing);
  t.is(code, 0, stderr);
  const sum = await run('sha256sum', [join(folder, 'base.raw')]);
  t.is(stdout.split(' ')[0], sum.stdout.split(' ')[0]);
  await run('qemu-img', ['check', '-q', join(folder, 'disk.qcow2')]);
  await run('qemu-img', ['convert', '-O', 'raw', 'disk.qcow2', 'flat.raw'], { cwd: folder });
  t.is((await readFile(join(folder, 'flat.raw'))).toString('latin1', 0, 10), 'worldhello');
});

test('the name of the backing file that stands in the image does not help him', async (t) => {
  if (!isRoot(t) || !canRun(t, 'unshare', 'setpriv', 'fusermount3', 'qemu-img')) return;
  const { code, stderr } = await asUser(await images(t), '');
  t.not(code, 0);
  t.regex(stderr, /base\.raw" named by image "\/dev\/fdset\/1": it is a device or system file/);
});

const CLIENT = `
import array, json, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(sys.argv[1])
lines = client.makefile('r')
lines.readline()
def ask(request, files=()):
    fds = array.array('i', [each.fileno() for each in files])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if files else []
    client.sendmsg([json.dumps(request).encode()], rights)
    while True:
        answer = json.loads(lines.readline())
        if 'event' not in answer: return answer
ask({'execute': 'qmp_capabilities'})
`;

const SEND = `${CLIENT}
image = open(sys.argv[2], 'r+b')
print(json.dumps([
    ask({'execute': 'add-fd', 'arguments': {'fdset-id': 7, 'opaque': 'rw:disk'}}, [image]),
    ask({'execute': 'query-fdsets'}),
    ask({'execute': 'add-fd'}),
    ask({'execute': 'blockdev-add', 'arguments': {'driver': 'raw', 'node-name': 'n0',
         'file': {'driver': 'file', 'filename': '/dev/fdset/7'}}}),
    ask({'execute': 'remove-fd', 'arguments': {'fdset-id': 7}}),
    ask({'execute': 'query-fdsets'}),
    ask({'execute': 'getfd', 'arguments': {'fdname': 'name'}}, [image]),
    ask({'execute': 'closefd', 'arguments': {'fdname': 'name'}}),
    ask({'execute': 'closefd', 'arguments': {'fdname': 'name'}}),
]))
for count in range(100): client.sendmsg([b' '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [image.fileno()]))])
ask({'execute': 'query-status'})
`;

test('add-fd, remove-fd, query-fdsets, getfd and closefd take descriptors that are sent along', async (t) => {
  if (!canRun(t, 'python3')) return;
  const { folder, socket, client, child } = await serve(t);
  const image = join(folder, 'disk.raw');
  await writeFile(image, Buffer.alloc(4096, 'x'));
  const { stdout } = await run('python3', ['-c', SEND, socket, image]);
  const answers = JSON.parse(stdout) as { return?: unknown; error?: { desc: string } }[];
  const [added, sets, refused, opened, removed, none, named, closed, again] = answers;
  t.like(added, { return: { 'fdset-id': 7 } });
  t.like(sets, { return: [{ 'fdset-id': 7, fds: [{ opaque: 'rw:disk' }] }] });
  t.is(refused?.error?.desc, 'No file descriptor supplied via SCM_RIGHTS');
  t.deepEqual([opened, removed, none], [{ return: {} }, { return: {} }, { return: [] }]);
  t.deepEqual([named, closed], [{ return: {} }, { return: {} }]);
  t.is(again?.error?.desc, "File descriptor named 'name' not found");
  // What nobody took went with the client; the node has kept its own.
  await client.run('query-status');
  const { stdout: open } = await run('ls', ['-l', `/proc/${child.pid}/fd`]);
  t.is(open.split('\n').filter((line) => line.endsWith(image)).length, 2, open);
});

const UPGRADE = `${CLIENT}
def run(name, files=(), **given): return ask({'execute': name, 'arguments': {key.replace('_', '-'): given[key] for key in given}}, files)
image, mountpoint = sys.argv[2:]
show = dict(type='fuse', node_name='n0', mountpoint=mountpoint)
print(json.dumps([
    run('add-fd', [open(image, 'rb')], fdset_id=3),
    run('blockdev-add', driver='raw', node_name='n0', auto_read_only=True,
        file={'driver': 'file', 'filename': '/dev/fdset/3'}),
    run('block-export-add', id='e0', **show),
    run('block-export-add', id='e1', writable=True, **show),
    run('add-fd', [open(image, 'r+b')], fdset_id=3),
    run('block-export-del', id='e0'),
    run('block-export-add', id='e1', writable=True, **show),
]))
`;

test('auto-read-only: what could only be read is written once the set has a descriptor for that', async (t) => {
  if (!canRun(t, 'python3')) return;
  const { folder, socket } = await serve(t);
  const image = join(folder, 'disk.raw');
  await writeFile(image, Buffer.alloc(4096, 'x'));
  await mkdir(join(folder, 'mnt'));
  const { stdout } = await run('python3', ['-c', UPGRADE, socket, image, join(folder, 'mnt')]);
  const answers = JSON.parse(stdout) as { error?: { desc: string } }[];
  const refused = [
    undefined,
    undefined,
    undefined,
    'Block node is read-only',
    undefined,
    undefined,
    undefined,
  ];
  t.deepEqual(
    answers.map(({ error }) => error?.desc),
    refused,
  );
  await writeFile(join(folder, 'mnt', 'n0.raw'), 'hello', { flag: 'r+' });
  t.is((await readFile(image)).toString('latin1', 0, 6), 'hellox');
});

const ACTIVATE = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1] + '.new')
listener.listen()
os.rename(sys.argv[1] + '.new', sys.argv[1])
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='control')
os.execv(sys.argv[2], sys.argv[2:])
`;

test('a monitor on a socket that was open when the server started, by number and by name', async (t) => {
  if (!canRun(t, 'python3')) return;
  const folder = await tempDir(t);
  for (const fd of ['3', 'control']) {
    const path = join(folder, `${fd}.sock`);
    const command = [
      process.execPath,
      program(),
      'serve',
      '--chardev',
      `socket,fd=${fd},id=c`,
      '--monitor',
      'c',
    ];
    const child = spawn('python3', ['-c', ACTIVATE, path, ...command], { stdio: 'inherit' });
    const ended = once(child, 'exit');
    t.teardown(() => child.kill());
    while (!existsSync(path)) await sleep(10);
    const client = await QmpClient.connect(t, path);
    t.like(await client.run('query-status'), { running: true });
    await client.run('quit');
    t.deepEqual(await ended, [0, null]);
  }
});
