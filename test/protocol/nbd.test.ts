import { mkdir, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { parseNbdName } from '../../drivers/protocol/nbd/address.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Graph } from '../../src/block/graph.ts';
import { ALL_PERMISSIONS, Permission } from '../../src/block/permissions.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { mountedDisk } from '../helpers/mounted-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import { startNbdkit, startQemuNbd } from '../helpers/nbd-server.ts';
import type { NbdServer } from '../helpers/nbd-server.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { MIB, rawFile } from '../format/small-image.ts';

type Options = Record<string, unknown>;

async function server(t: ExecutionContext, starting: Promise<NbdServer>): Promise<NbdServer> {
  const started = await starting;
  t.teardown(() => started.kill());
  return started;
}

const nbdkit = async (t: ExecutionContext, ...args: string[]): Promise<NbdServer> =>
  server(t, startNbdkit(join(await tempDir(t), 's'), args));

async function openNbd(t: ExecutionContext, { socket }: NbdServer, options: Options = {}): Promise<Child> {
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close().catch(() => {}));
  const given = { driver: 'nbd', 'server.path': socket, discard: 'unmap', ...options };
  const node = await graph.open(given);
  const used = node.readOnly ? Permission.consistentRead : ALL_PERMISSIONS & ~Permission.resize;
  return graph.attachRoot(node, { name: 'test', label: 'the test', used });
}

const NAMES: readonly [string, Options][] = [
  ['nbd:localhost:10809', { server: { type: 'inet', host: 'localhost', port: '10809' } }],
  ['nbd:[::1]:1:exportname=a:b', { server: { type: 'inet', host: '::1', port: '1' }, export: 'a:b' }],
  ['nbd:unix:/run/s:exportname=x', { server: { type: 'unix', path: '/run/s' }, export: 'x' }],
  ['nbd://host', { server: { type: 'inet', host: 'host', port: '10809' } }],
  ['nbd://[fe80::1]:10/a%20b', { server: { type: 'inet', host: 'fe80::1', port: '10' }, export: 'a b' }],
  ['nbd://h//a', { server: { type: 'inet', host: 'h', port: '10809' }, export: '/a' }],
  ['nbd+unix:///x?socket=/run/a%2fb', { server: { type: 'unix', path: '/run/a/b' }, export: 'x' }],
  ['nbd+unix://?socket=s', { server: { type: 'unix', path: 's' } }],
];

for (const [name, options] of NAMES) {
  test(`nbd: ${name} is a whole file name`, (t) => {
    t.deepEqual(parseNbdName(name), options);
  });
}

for (const name of [
  'nbd:host',
  'nbd+unix:///x',
  'nbd://h/x?socket=s',
  'nbds://h/x',
  'nbd://h/%',
  'nbd+unix://h/?socket=s',
]) {
  test(`nbd: ${name} is refused`, (t) => {
    t.throws(() => parseNbdName(name), { message: /Cannot open an NBD export: / });
  });
}

const SERVERS: readonly [string, string[]][] = [
  ['in memory', ['memory', '4M']],
  [
    'with blocks of 4 KiB to 64 KiB',
    [
      '--filter=blocksize-policy',
      'memory',
      '4M',
      'blocksize-minimum=4096',
      'blocksize-preferred=4096',
      'blocksize-maximum=65536',
      'blocksize-error-policy=error',
    ],
  ],
  ['without structured replies', ['--no-sr', 'memory', '4M']],
  ['without zeroes', ['--filter=nozero', 'memory', '4M', 'zeromode=none']],
  ['that answers out of order', ['--filter=delay', 'memory', '4M', 'rdelay=1ms', 'wdelay=2ms']],
];

for (const [name, args] of SERVERS) {
  test(`nbd: a server ${name} keeps what concurrent requests write`, async (t) => {
    if (!canRun(t, 'nbdkit')) return;
    const child = await openNbd(t, await nbdkit(t, ...args));
    const random = new Random(seed(91));
    const model = new ModelDisk(child.size);
    const run = { random, operations: 300, concurrency: 12, maxLength: 200_000, borders: [4096, 65_536] };
    await exercise(childDisk(child, random), model, run);
    await verify({ read: (bytes, offset) => child.read(bytes, offset) }, model);
    await child.flush();
    t.is(child.size, 4 * MIB);
  });
}

async function statusOf(child: Child): Promise<string> {
  const parts: string[] = [];
  const status = new BlockStatus();
  for (let at = 0; at < child.size; at += status.length) {
    await child.status(at, child.size - at, status);
    parts.push(`${status.length / 1024}${status.data ? 'd' : ''}${status.zero ? 'z' : ''}`);
  }
  return parts.join(' ');
}

test('nbd: block status tells holes, also behind a write of ours', async (t) => {
  if (!canRun(t, 'nbdkit')) return;
  const child = await openNbd(t, await nbdkit(t, 'memory', '1M'));
  t.is(await statusOf(child), '1024z');
  await child.write(Buffer.alloc(32768, 1), 65536);
  t.is(await statusOf(child), '64z 32d 928z');
  await child.writeZeroes(65536, 32768, 2);
  t.is(await statusOf(child), '1024z');
  const plain = await openNbd(t, await nbdkit(t, '--no-sr', 'memory', '1M'));
  t.is(await statusOf(plain), '1024d');
});

test('nbd: a bitmap of qemu-nbd is shown by x-dirty-bitmap, dirty parts as holes', async (t) => {
  if (!canRun(t, 'qemu-nbd', 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
  await run('qemu-img', ['bitmap', '--add', image, 'b0']);
  await run('qemu-io', ['-c', 'write 128k 64k', image]);
  const args = ['-r', '-f', 'qcow2', '-B', 'b0', '-x', 'name', image];
  const { socket } = await server(t, startQemuNbd(join(folder, 's'), args));
  const named = { export: 'name', 'read-only': true };
  const child = await openNbd(
    t,
    { socket, kill: () => Promise.resolve() },
    { ...named, 'x-dirty-bitmap': 'qemu:dirty-bitmap:b0' },
  );
  t.is(await statusOf(child), '128d 64z 832d');
  await t.throwsAsync(child.read(Buffer.alloc(512), 0), { message: /shows a bitmap only/ });
  const refused = (options: Options): Promise<Error> =>
    t.throwsAsync(openNbd(t, { socket, kill: () => Promise.resolve() }, options));
  t.regex((await refused({ ...named, 'x-dirty-bitmap': 'qemu:dirty-bitmap:no' })).message, /no such context/);
  t.regex(
    (await refused({ export: 'other' })).message,
    /Cannot open NBD export "nbd\+unix:\/\/\/other\?socket=.*": there is no export of that name/,
  );
  t.regex((await refused({ export: 'name' })).message, /shares it read-only; use read-only=on/);
  t.regex((await refused({ 'tls-creds': 'x' })).message, /tls-creds is given, TLS is not supported/);
  t.regex(
    (await refused({ 'server.path': join(folder, 'none') })).message,
    /cannot connect to .*none: .*ENOENT/,
  );
});

test('nbd: errors of the server are those of the request', async (t) => {
  if (!canRun(t, 'nbdkit')) return;
  const { socket } = await nbdkit(
    t,
    '--filter=error',
    'memory',
    '1M',
    'error-pread=EIO',
    'error-pread-rate=100%',
    'error-pwrite=ENOSPC',
    'error-pwrite-rate=100%',
  );
  const child = await openNbd(t, { socket, kill: () => Promise.resolve() });
  const failed = await t.throwsAsync(child.read(Buffer.alloc(512), 0));
  t.like(failed, { code: 'EIO' });
  t.regex(failed.message, /^Cannot read from NBD export "nbd\+unix:.*": the server says EIO/);
  t.like(await t.throwsAsync(child.write(Buffer.alloc(512, 1), 0)), { code: 'ENOSPC' });
  await child.flush();
});

test('nbd: a server that comes back goes on being used, if told to wait', async (t) => {
  if (!canRun(t, 'qemu-nbd')) return;
  const folder = await tempDir(t);
  const disk = new Random(3).bytes(MIB);
  const args = ['-f', 'raw', await rawFile(folder, 'disk.raw', disk)];
  const socket = join(folder, 's');
  const first = await server(t, startQemuNbd(socket, args));
  const patient = await openNbd(t, first, { 'reconnect-delay': 60 });
  const hasty = await openNbd(t, first);
  await patient.write(disk.subarray(0, 4096), 0);
  await first.kill();
  await rm(socket, { force: true });
  t.like(await t.throwsAsync(hasty.read(Buffer.alloc(512), 0)), { code: 'EIO' });
  const bytes = Buffer.alloc(disk.length);
  const reading = patient.read(bytes, 0);
  await t.throwsAsync(hasty.read(Buffer.alloc(512), 0));
  await server(t, startQemuNbd(socket, args));
  await reading;
  t.is(difference(bytes, disk), undefined);
  await hasty.read(bytes.subarray(0, 512), 0);
  // qemu-nbd says that its connections are one: a flush covers what was written on the one that is gone.
  await patient.flush();
});

test('nbd: opening waits for the server as long as open-timeout says', async (t) => {
  if (!canRun(t, 'nbdkit')) return;
  const socket = join(await tempDir(t), 's');
  const opening = openNbd(t, { socket, kill: () => Promise.resolve() }, { 'open-timeout': 60 });
  await server(t, startNbdkit(socket, ['memory', '1M']));
  t.is((await opening).size, MIB);
});

test('nbd: an image on a server is mounted, written and sound afterwards', async (t) => {
  if (!canRun(t, 'qemu-nbd', 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  // An export does not grow: the image needs its room before.
  await run('truncate', ['-s', '16M', image]);
  const args = ['-f', 'raw', '--discard=unmap', image];
  const nbd = await server(t, startQemuNbd(join(folder, 's'), args));
  const folderOfMount = join(folder, 'mnt');
  await mkdir(folderOfMount);
  const mounted = await mountImage(t, `nbd+unix:///?socket=${nbd.socket}`, [folderOfMount]);
  const random = new Random(seed(92));
  const model = new ModelDisk(8 * MIB);
  const disk = await mountedDisk(t, mounted.file);
  await exercise(disk, model, {
    random,
    operations: 150,
    concurrency: 6,
    maxLength: 100_000,
    borders: [65_536],
  });
  await disk.close();
  await mounted.unmount();
  await nbd.kill();
  await run('qemu-img', ['check', '-q', image]);
  const flat = join(folder, 'flat.raw');
  await writeFile(flat, model.bytes);
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', flat, image]);
  t.pass();
});

test('nbd: a URI with a port is an export over TCP', async (t) => {
  if (!canRun(t, 'nbdkit')) return;
  const { socket } = await nbdkit(t, 'pattern', '1M');
  const proxy = createServer((client) => {
    const target = connect(socket);
    for (const end of [client, target]) end.on('error', () => {});
    client.pipe(target).pipe(client);
  });
  proxy.listen(0, '127.0.0.1');
  t.teardown(() => proxy.close());
  await once(proxy, 'listening');
  const graph = new Graph({ drivers: DRIVERS });
  t.teardown(() => graph.close());
  const { port } = proxy.address() as AddressInfo;
  const node = await graph.openImage(`nbd://127.0.0.1:${port}/`, 'raw', { 'read-only': true });
  const child = graph.attachRoot(node, { name: 'test', used: Permission.consistentRead });
  const bytes = Buffer.alloc(MIB);
  await child.read(bytes, 0);
  // Every eight bytes hold their own offset.
  for (let at = 0; at < MIB; at += 8) if (bytes.readBigUInt64BE(at) !== BigInt(at)) t.fail(`at ${at}`);
  t.pass();
});
