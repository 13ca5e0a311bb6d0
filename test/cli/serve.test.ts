import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, skip } from '../helpers/tools.ts';

const MiB = 1 << 20;

const refused = test.macro(async (t, args: readonly string[], code: number, text: RegExp) => {
  const outcome = await attemptBlockfuse(['serve', ...args]);
  t.is(outcome.code, code, outcome.stderr);
  t.regex(outcome.stderr, text);
});

test('no key', refused, ['--blockdev', 'driver=raw,=x'], 2, /no key/);
test('no JSON', refused, ['--blockdev', '{"driver":'], 2, /not valid JSON/);
test('a node without driver', refused, ['--blockdev', 'node-name=n0'], 2, /'driver' is missing/);
test('unknown driver', refused, ['--blockdev', 'driver=nix'], 1, /unknown driver "nix"/);
test('unknown option', refused, ['--blockdev', 'driver=null-co,foo=1'], 1, /no option "foo"/);
test('unknown node', refused, ['--blockdev', 'driver=raw,file=nix'], 1, /node "nix"/);
test('no mount point', refused, ['--export', 'fuse,id=e0,node-name=n0'], 2, /'mountpoint' is missing/);
test(
  'unknown option of an export',
  refused,
  ['--export', 'fuse,id=e,node-name=n,mountpoint=m,foo=1'],
  2,
  /'foo' is unexpected/,
);
test('unknown chardev', refused, ['--monitor', 'c'], 1, /chardev "c" not found/);
test('unknown object', refused, ['--object', 'nix,id=x'], 1, /unknown type "nix"/);
test('stdio in the background', refused, ['--daemonize', '--chardev', 'stdio,id=c'], 2, /can not go/);
test('no such file', refused, ['--config', '/nonexistent/file'], 1, /no such file/);
test(
  'twice the same name',
  refused,
  ['--blockdev', 'null-co,node-name=n0', '--blockdev', 'null-co,node-name=n0'],
  1,
  /there is one of that name already/,
);
test(
  'a reference together with options',
  refused,
  ['--blockdev', 'raw,node-name=n0,file=f0,file.driver=null-co'],
  1,
  /"file" names node or value "f0" already/,
);
test(
  'a driver that is not allowed',
  refused,
  ['--allow-drivers', 'raw,file', '--blockdev', 'null-co,node-name=n0'],
  1,
  /'null-co' is not whitelisted/,
);
test(
  'a driver that is allowed for reading only',
  refused,
  [
    ...['--allow-drivers', 'null-co', '--allow-drivers-read-only', 'raw'],
    ...['--blockdev', 'null-co,node-name=n0', '--blockdev', 'raw,node-name=n1,file=n0'],
  ],
  1,
  /'raw' can only be used for read-only/,
);

test('help tells what there is', async (t) => {
  const help = async (...args: string[]): Promise<string> => (await blockfuse(['serve', ...args])).stdout;
  t.regex(await help('--blockdev', 'help'), /^qcow2 +format/m);
  t.regex(await help('--blockdev', 'driver=raw,help'), /^offset +number +0/m);
  t.regex(await help('--blockdev', 'raw,help'), /^file +needed/m);
  t.regex(await help('--object', 'help'), /^throttle-group/m);
  t.regex(await help('--object', 'throttle-group,help'), /^limits.bps-total/m);
  t.regex(await help('--export', 'help'), /^mountpoint/m);
});

const YAML = `
# Two disks in one folder.
export:
  - {id: e0, node-name: a, mountpoint: mnt, writable: true}
  - {id: e1, node-name: b, mountpoint: mnt}
blockdev:
  - driver: raw
    node-name: a
    file: {driver: file, filename: a.raw}
  - driver: raw
    node-name: b
    file.driver: file
    file.filename: b.raw
    read-only: true
`;

test('a file describes a server in the background: two disks in one folder, unmounted by name', async (t) => {
  const folder = await tempDir(t);
  await mkdir(join(folder, 'mnt'));
  await writeFile(join(folder, 'a.raw'), Buffer.alloc(MiB, 'a'));
  await writeFile(join(folder, 'b.raw'), Buffer.alloc(MiB, 'b'));
  await writeFile(join(folder, 'disks.yaml'), YAML);
  const pidfile = join(folder, 'pid');
  const args = ['--config', 'disks.yaml', '--daemonize', '--pidfile', 'pid'];
  await blockfuse(['serve', ...args], { cwd: folder });
  const pid = Number(await readFile(pidfile, 'utf8'));
  t.teardown(async () => {
    if (existsSync(pidfile)) process.kill(pid);
    while (existsSync(pidfile)) await sleep(10);
  });
  t.deepEqual((await readdir(join(folder, 'mnt'))).sort(), ['a.raw', 'b.raw']);
  t.true((await readFile(join(folder, 'mnt', 'b.raw'))).equals(Buffer.alloc(MiB, 'b')));
  await writeFile(join(folder, 'mnt', 'a.raw'), Buffer.alloc(MiB, 'A'), { flag: 'r+' });
  await t.throwsAsync(writeFile(join(folder, 'mnt', 'b.raw'), 'x', { flag: 'r+' }), { code: 'EROFS' });
  const { stdout } = await blockfuse(['list', '--json']);
  const server = (JSON.parse(stdout) as { pid: number; mounts: { node: string }[] }[]).find(
    (each) => each.pid === pid,
  );
  t.deepEqual(server?.mounts.map(({ node }) => node).sort(), ['a', 'b']);
  await blockfuse(['unmount', join(folder, 'mnt')]);
  t.deepEqual(await readdir(join(folder, 'mnt')), []);
  t.true((await readFile(join(folder, 'a.raw'))).equals(Buffer.alloc(MiB, 'A')));
  t.true(existsSync(pidfile), 'the server goes on without exports');
  process.kill(pid, 'SIGTERM');
  while (existsSync(pidfile)) await sleep(10);
});

test('exports come and go: on a file, in a folder with others; in use they stay unless ended hard', async (t) => {
  const { client, folder } = await serve(t);
  await mkdir(join(folder, 'mnt'));
  await writeFile(join(folder, 'on-file'), '');
  await client.run('blockdev-add', { driver: 'mem', 'node-name': 'm0', size: MiB });
  const add = (id: string, mountpoint: string, more: object = {}): Promise<unknown> =>
    client.run('block-export-add', {
      ...{ type: 'fuse', id, 'node-name': 'm0', writable: true },
      mountpoint: join(folder, mountpoint),
      ...more,
    });
  await add('e0', 'on-file');
  await t.throwsAsync(add('e1', 'on-file'), { message: /already is a FUSE export/ });
  await add('e2', 'mnt');
  await t.throwsAsync(add('e3', 'mnt'), { message: /the name is taken/ });
  await client.run('blockdev-add', { driver: 'raw', 'node-name': 'm1', file: 'm0' });
  await add('e3', 'mnt', { 'node-name': 'm1' });
  t.deepEqual((await readdir(join(folder, 'mnt'))).sort(), ['m0.raw', 'm1.raw']);
  // Several writers of one disk see what the others wrote.
  for (const each of ['on-file', 'mnt/m0.raw', 'mnt/m1.raw']) await readFile(join(folder, each));
  await writeFile(join(folder, 'on-file'), 'one', { flag: 'r+' });
  t.is((await readFile(join(folder, 'mnt', 'm1.raw'))).toString('latin1', 0, 3), 'one');
  await writeFile(join(folder, 'mnt', 'm1.raw'), 'two', { flag: 'r+' });
  t.is((await readFile(join(folder, 'on-file'))).toString('latin1', 0, 3), 'two');
  const reader = await open(join(folder, 'mnt', 'm1.raw'));
  t.regex(await client.refused('block-export-del', { id: 'e3' }), /still in use/);
  t.regex(await client.refused('blockdev-del', { 'node-name': 'm1' }), /in use by export "e3"/);
  await client.run('block-export-del', { id: 'e3', mode: 'hard' });
  await t.throwsAsync(reader.read(Buffer.alloc(10)), { code: 'ENODEV' });
  await reader.close();
  t.deepEqual(await client.event('BLOCK_EXPORT_DELETED'), { id: 'e3' });
  t.deepEqual(await readdir(join(folder, 'mnt')), ['m0.raw']);
  await run('umount', [join(folder, 'on-file')]);
  t.deepEqual(await client.event('BLOCK_EXPORT_DELETED'), { id: 'e0' });
  await client.run('quit');
  await client.closed();
});

test('snapshot=on: what is written goes to a temporary file that nobody can see', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const temporary = join(folder, 'tmp');
  await mkdir(temporary);
  const image = join(folder, 'disk.raw');
  await writeFile(image, Buffer.alloc(MiB, 'x'));
  const mountpoint = join(folder, 'on-file');
  await writeFile(mountpoint, '');
  const env = { ...process.env, TMPDIR: temporary };
  const pidfile = join(folder, 'pid');
  const args = ['--blockdev', `driver=raw,node-name=n0,file.driver=file,file.filename=${image},snapshot=on`];
  const shown = ['--export', `fuse,id=e0,node-name=n0,mountpoint=${mountpoint},writable=on`];
  await blockfuse(['serve', ...args, ...shown, '--daemonize', '--pidfile', pidfile], { env });
  await writeFile(mountpoint, 'changed', { flag: 'r+' });
  t.is((await readFile(mountpoint)).toString('latin1', 0, 9), 'changedxx');
  t.deepEqual(await readdir(temporary), []);
  process.kill(Number(await readFile(pidfile, 'utf8')));
  while (existsSync(pidfile)) await sleep(10);
  t.true((await readFile(image)).equals(Buffer.alloc(MiB, 'x')));
});

test('events: I/O errors, write thresholds, jobs', async (t) => {
  const { client, folder } = await serve(t);
  const mountpoint = join(folder, 'on-file');
  await writeFile(mountpoint, '');
  const node = { driver: 'error', 'node-name': 'bad', file: { driver: 'mem', size: MiB, 'node-name': 'm0' } };
  const added = await client.ask('blockdev-add', { ...node, 'error-write': 'EIO' });
  if (added.error !== undefined) {
    const debug = { 'inject-error': [{ event: 'none', iotype: 'write', errno: 5 }] };
    await client.run('blockdev-add', {
      ...node,
      driver: 'blkdebug',
      image: node.file,
      file: undefined,
      ...debug,
    });
  }
  const id = { type: 'fuse', id: 'e0', 'node-name': 'bad' };
  await client.run('block-export-add', { ...id, mountpoint, writable: true });
  await t.throwsAsync(writeFile(mountpoint, 'x', { flag: 'r+' }), { code: 'EIO' });
  t.like(await client.event('BLOCK_IO_ERROR'), { device: 'e0', operation: 'write', nospace: false });
  await client.run('x-blockdev-change', { parent: 'e0', node: 'm0' });
  await client.run('block-set-write-threshold', { 'node-name': 'm0', 'write-threshold': 5000 });
  await writeFile(mountpoint, Buffer.alloc(8192), { flag: 'r+' });
  t.like(await client.event('BLOCK_WRITE_THRESHOLD'), { 'node-name': 'm0', 'write-threshold': 5000 });
  const file = join(folder, 'new.qcow2');
  await writeFile(file, '');
  await client.run('blockdev-create', {
    'job-id': 'j0',
    options: {
      driver: 'qcow2',
      file: { driver: 'file', filename: file },
      size: MiB,
      version: 'v3',
      'cluster-size': 4096,
    },
  });
  for (const status of ['created', 'running', 'waiting', 'pending', 'concluded'])
    t.deepEqual(await client.event('JOB_STATUS_CHANGE'), { status, id: 'j0' });
  t.like(await client.run('query-jobs'), [{ id: 'j0', type: 'create', status: 'concluded' }]);
  await client.run('job-dismiss', { id: 'j0' });
  if (canRun(t, 'qemu-img')) {
    const { stdout } = await run('qemu-img', ['info', '--output=json', file]);
    t.like(JSON.parse(stdout), { 'virtual-size': MiB, 'cluster-size': 4096 });
  }
});

const keepsFile = test.macro(async (t: ExecutionContext, wanted: Record<string, unknown>, why: RegExp) => {
  const { client, folder } = await serve(t);
  const filename = join(folder, 'kept.img');
  await writeFile(filename, 'what was there');
  const options = { file: { driver: 'file', filename }, size: MiB, ...wanted };
  await client.run('blockdev-create', { 'job-id': 'j0', options });
  for (const status of ['created', 'running', 'aborting', 'concluded'])
    t.deepEqual(await client.event('JOB_STATUS_CHANGE'), { status, id: 'j0' });
  const [job] = (await client.run('query-jobs')) as { error?: string }[];
  t.regex(job?.error ?? '', why);
  t.is(await readFile(filename, 'utf8'), 'what was there');
});
test(
  'blockdev-create refuses what can not be made before it touches the file',
  keepsFile,
  { driver: 'qcow2', 'cluster-size': 5000 },
  /5000/,
);
test(
  'blockdev-create of an image with a data file',
  keepsFile,
  { driver: 'qcow2', 'data-file': 'data.raw' },
  /data_file is "data.raw", but no further file can be made here/,
);
test(
  'blockdev-create of an image in several files',
  keepsFile,
  { driver: 'vmdk', subformat: 'monolithicFlat' },
  /subformat is monolithicFlat, but no further file can be made here/,
);
test(
  'blockdev-create of an image that is a folder',
  keepsFile,
  { driver: 'parallels-hdd' },
  /no further file can be made here/,
);

test('an image that turns out to be damaged is told of', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { client, folder } = await serve(t);
  const image = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
  const bytes = await readFile(image);
  // The first L1 entry names a table that is not aligned.
  bytes.writeBigUInt64BE(0x8000000000050200n, Number(bytes.readBigUInt64BE(40)));
  await writeFile(image, bytes);
  const mountpoint = join(folder, 'on-file');
  await writeFile(mountpoint, '');
  const file = { driver: 'file', filename: image };
  await client.run('blockdev-add', { driver: 'qcow2', 'node-name': 'n0', file });
  const id = { type: 'fuse', id: 'e0', 'node-name': 'n0' };
  await client.run('block-export-add', { ...id, mountpoint, writable: true });
  await t.throwsAsync(readFile(mountpoint), { code: 'EIO' });
  t.like(await client.event('BLOCK_IMAGE_CORRUPTED'), { 'node-name': 'n0', fatal: true });
  t.like(await client.event('BLOCK_IO_ERROR'), { device: 'e0', operation: 'read' });
});

test('what the kernel does by itself is not changed below its hands', async (t) => {
  if (!isRoot(t)) return;
  const { client, folder } = await serve(t);
  const image = join(folder, 'disk.raw');
  const mountpoint = join(folder, 'on-file');
  await writeFile(image, Buffer.alloc(MiB, 'x'));
  await writeFile(mountpoint, '');
  await client.run('blockdev-add', {
    driver: 'raw',
    'node-name': 'n0',
    file: { driver: 'file', filename: image },
  });
  const id = { type: 'fuse', id: 'e0', 'node-name': 'n0' };
  await client.run('block-export-add', { ...id, mountpoint, passthrough: true });
  const info = (await client.run('x-blockfuse-info')) as { exports: { passthrough: boolean }[] };
  if (info.exports[0]?.passthrough !== true) return skip(t, 'this kernel has no FUSE passthrough');
  const file = await open(mountpoint);
  const bitmap = { node: 'n0', name: 'b0' };
  t.regex(await client.refused('block-dirty-bitmap-add', bitmap), /kernel does its I\/O past this server/);
  await file.close();
  // The kernel tells of the close in its own time.
  for (;;) {
    const { error } = await client.ask('block-dirty-bitmap-add', bitmap);
    if (error === undefined) break;
    await sleep(20);
  }
  const again = await open(mountpoint);
  await client.run('block-dirty-bitmap-clear', bitmap);
  await again.close();
});

test('transaction: all or none, and what it made is closed again', async (t) => {
  const { client, folder } = await serve(t);
  const file = join(folder, 'base.raw');
  await writeFile(file, '');
  await truncate(file, MiB);
  const below = { driver: 'file', filename: file };
  await client.run('blockdev-add', { driver: 'raw', 'node-name': 'n0', file: below });
  const names = async (): Promise<string[]> =>
    ((await client.run('query-named-block-nodes', { flat: true })) as { 'node-name': string }[])
      .map((node) => node['node-name'])
      .sort();
  const before = await names();
  const snapshot = {
    'node-name': 'n0',
    'snapshot-file': join(folder, 's.qcow2'),
    'snapshot-node-name': 's0',
  };
  const actions = [
    { type: 'block-dirty-bitmap-add', data: { node: 'n0', name: 'b0' } },
    { type: 'blockdev-snapshot-sync', data: snapshot },
    { type: 'abort', data: {} },
  ];
  t.regex(await client.refused('transaction', { actions }), /aborted/);
  t.deepEqual(await names(), before);
  t.regex(await client.refused('block-dirty-bitmap-clear', { node: 'n0', name: 'b0' }), /not found/);
  await client.run('transaction', { actions: actions.slice(0, 2) });
  t.true((await names()).includes('s0'));
  await client.run('block-dirty-bitmap-clear', { node: 'n0', name: 'b0' });
});

test('QMP on standard input and output, out of band when agreed', async (t) => {
  const requests = [
    { execute: 'qmp_capabilities', arguments: { enable: ['oob'] } },
    { 'exec-oob': 'query-status', id: 'first' },
    { execute: 'blockdev-add', arguments: { driver: 'null-co', 'node-name': 'n0' }, id: 2 },
    { execute: 'quit' },
  ];
  const input = requests.map((request) => JSON.stringify(request)).join('');
  const { stdout } = await blockfuse(
    ['serve', '--chardev', 'stdio,id=c', '--monitor', 'chardev=c,pretty=on'],
    {
      input,
    },
  );
  const answers = JSON.parse(`[${stdout.replaceAll(/^\}\r?\n\{/gm, '},{')}]`) as object[];
  t.like(answers[0], { QMP: { capabilities: ['oob'] } });
  t.deepEqual(
    answers
      .slice(1)
      .map((answer) => ('id' in answer ? String(answer.id) : 'none'))
      .sort(),
    ['2', 'first', 'none', 'none'],
  );
});
