/** The server under a service manager, and its logs: sd_notify against a real datagram socket, the unit's own lines. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { LogFile } from '../../src/sys/log-file.ts';
import { listenForDatagrams } from '../helpers/datagrams.ts';
import { isMounted } from '../helpers/mounted.ts';
import { blockfuse, program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const UNITS = fileURLToPath(new URL('../../packaging/systemd/', import.meta.url));

interface Place {
  readonly folder: string;
  readonly image: string;
  readonly mnt: string;
  readonly disk: string;
}

async function place(t: ExecutionContext): Promise<Place> {
  const folder = await tempDir(t);
  const [image, mnt] = [join(folder, 'disk.qcow2'), join(folder, 'mnt')];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  await mkdir(mnt);
  t.teardown(() => attempt('umount', ['-lq', mnt]));
  return { folder, image, mnt, disk: join(mnt, 'disk.raw') };
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
}

function start(
  t: ExecutionContext,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  stderr?: number,
): Started {
  const [command = '', ...args] = argv;
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', stderr ?? 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return { child, ended: new Promise((resolve) => child.on('exit', resolve)) };
}

const ourselves = (): string[] => [process.execPath, program()];

async function writePattern(disk: string): Promise<void> {
  const handle = await open(disk, 'r+');
  await handle.write(Buffer.alloc(1_048_576, 5), 0, 1_048_576, 0);
  await handle.close();
}

const notifies = test.macro(async (t, name: (folder: string) => string) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt, disk } = await place(t);
  const socket = name(folder);
  const datagrams = listenForDatagrams(t, socket);
  const argv = [...ourselves(), 'mount', '--foreground', image, mnt];
  const { child, ended } = start(t, argv, { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '200000' });
  const ready = await datagrams.waitFor(/^READY=1$/m);
  t.deepEqual(ready.split('\n'), ['READY=1', `STATUS=Serving ${disk}`, `MAINPID=${child.pid}`]);
  await writePattern(disk);
  await datagrams.waitFor(/^WATCHDOG=1$/);
  t.notRegex(datagrams.received.join('\n'), /STOPPING/);
  child.kill('SIGTERM');
  await datagrams.waitFor(/^STOPPING=1$/m);
  t.is(await ended, 0);
  t.is(datagrams.received.filter((text) => text.includes('STOPPING=1')).length, 1);
  t.false(await isMounted(mnt));
  await run('qemu-img', ['check', '-q', image]);
  await run('qemu-io', ['-c', 'read -P 5 0 1M', image]);
});

test('the service manager is told of readiness, of life and of the end', notifies, (folder) =>
  join(folder, 'notify'),
);
test('the same over an abstract socket', notifies, (folder) => `@${folder}`);

test('an end from outside is told too; nothing is told of a server in the background', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt } = await place(t);
  const socket = join(folder, 'notify');
  const datagrams = listenForDatagrams(t, socket);
  const argv = [...ourselves(), 'mount', '--foreground', image, mnt];
  const { ended } = start(t, argv, { NOTIFY_SOCKET: socket });
  await datagrams.waitFor(/^READY=1$/m);
  await run('umount', [mnt]);
  t.is(await ended, 0);
  t.regex(datagrams.received.join('\n'), /STOPPING=1/);
  t.notRegex(datagrams.received.join('\n'), /WATCHDOG/);
  const before = datagrams.received.length;
  await blockfuse(['mount', image, mnt], { env: { ...process.env, NOTIFY_SOCKET: socket } });
  await blockfuse(['unmount', mnt]);
  t.is(datagrams.received.length, before);
});

test('a service manager that is gone is a warning, not the end', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt, disk } = await place(t);
  const errors = join(folder, 'stderr');
  const env = { NOTIFY_SOCKET: join(folder, 'nobody') };
  const { child, ended } = start(
    t,
    [...ourselves(), 'mount', '--foreground', image, mnt],
    env,
    openSync(errors, 'w'),
  );
  await until(() => existsSync(disk), 'the disk');
  child.kill('SIGTERM');
  t.is(await ended, 0);
  t.regex(await readFile(errors, 'utf8'), /^blockfuse: warning: Cannot notify ".*nobody": no such file/);
});

/** A line of a unit as systemd reads it: one argument a word, quotes, `$NAME` as several words, `${NAME}` inside one. */
function unitCommand(unit: string, key: string, env: Readonly<Record<string, string>>): string[] {
  const [, line = ''] = new RegExp(`^${key}=-?(.*)$`, 'm').exec(unit) ?? [];
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].flatMap(([, quoted, word = '']) => {
    if (quoted !== undefined) return [quoted];
    if (/^\$\w+$/.test(word)) return (env[word.slice(1)] ?? '').split(' ').filter((part) => part !== '');
    return [word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => env[name] ?? '')];
  });
}

test('the lines of blockfuse@.service mount, and clear up after a server that was killed', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt, disk } = await place(t);
  const unit = await readFile(join(UNITS, 'blockfuse@.service'), 'utf8');
  const env = {
    IMAGE: image,
    MOUNTPOINT: mnt,
    OPTIONS: '--read-only --format qcow2',
    NOTIFY_SOCKET: join(folder, 'n'),
  };
  const datagrams = listenForDatagrams(t, env.NOTIFY_SOCKET);
  const [installed, ...args] = unitCommand(unit, 'ExecStart', env);
  t.is(installed, '/usr/bin/blockfuse');
  const { child, ended } = start(t, [...ourselves(), ...args], env);
  await datagrams.waitFor(/^READY=1$/m);
  t.is((await open(disk, 'r+').catch(({ code }: NodeJS.ErrnoException) => code)) as string, 'EROFS');
  child.kill('SIGKILL');
  await ended;
  t.true(await isMounted(mnt));
  const [shell = '', ...script] = unitCommand(unit, 'ExecStopPost', env);
  const clearUp = script.map((part) => part.replace('/usr/bin/blockfuse', ourselves().join(' ')));
  await run(shell, clearUp, { env: { ...process.env, ...env, SERVICE_RESULT: 'success' } });
  t.true(await isMounted(mnt));
  await run(shell, clearUp, { env: { ...process.env, ...env, SERVICE_RESULT: 'signal' } });
  t.false(await isMounted(mnt));
});

test('the lines of blockfuse-serve.service take the socket of the service manager', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt, disk } = await place(t);
  const unit = await readFile(join(UNITS, 'blockfuse-serve.service'), 'utf8');
  const socketUnit = await readFile(join(UNITS, 'blockfuse-serve.socket'), 'utf8');
  const [, name = ''] = /^FileDescriptorName=(.*)$/m.exec(socketUnit) ?? [];
  const [, ...args] = unitCommand(unit, 'ExecStart', {});
  const config = join(folder, 'serve.yaml');
  const file = `file: { driver: file, filename: ${image} }`;
  const text = `blockdev: [{ driver: qcow2, node-name: disk, ${file} }]\nexport: [{ id: e, node-name: disk, mountpoint: ${mnt} }]\n`;
  await writeFile(config, `${await readFile(join(UNITS, 'serve.yaml'), 'utf8')}`.replace('{}', text));
  const argv = [...ourselves(), ...args.map((arg) => arg.replace('%E/blockfuse/serve.yaml', config))];
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(join(folder, 'qmp.sock'), resolve));
  const env = { NOTIFY_SOCKET: join(folder, 'n'), LISTEN_FDS: '1', LISTEN_FDNAMES: name };
  const datagrams = listenForDatagrams(t, env.NOTIFY_SOCKET);
  // The process id is known in the process only.
  const activated = ['sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh', ...argv];
  const child = spawn(activated[0] ?? '', activated.slice(1), {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', descriptorOf(listener)],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = new Promise((resolve) => child.on('exit', resolve));
  // This process listens no more, so that every client is the child's. Closing removes the name it was made with.
  await rename(join(folder, 'qmp.sock'), join(folder, 'given.sock'));
  listener.close();
  await datagrams.waitFor(/^READY=1$/m);
  t.is((await stat(disk)).size, 64 * 1_048_576);
  const client = connect(join(folder, 'given.sock'));
  t.teardown(() => client.destroy());
  client.write('{"execute":"qmp_capabilities"}\n{"execute":"query-block-exports"}\n{"execute":"quit"}\n');
  const answers = (await client.setEncoding('utf8').toArray()).join('');
  t.regex(answers, /"QMP"/);
  t.regex(answers, /"node-name": ?"disk"/);
  t.is(await ended, 0);
  t.regex(datagrams.received.join('\n'), /STOPPING=1/);
});

/** Of a listening server: what is given to a child. */
function descriptorOf(server: Server): number {
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return fd;
}

test('systemd finds nothing wrong with the units', async (t) => {
  if (!canRun(t, 'systemd-analyze')) return;
  const folder = await tempDir(t);
  const names = (await readdir(UNITS)).filter((name) => /\.(service|socket)$/.test(name));
  t.true(names.includes('blockfuse@.service'));
  for (const name of names) {
    const text = await readFile(join(UNITS, name), 'utf8');
    await writeFile(join(folder, name), text.replaceAll('/usr/bin/blockfuse', '/bin/true'));
  }
  const files = names.map((name) => join(folder, name.replace('@', '@disk')));
  const { stderr } = await run('systemd-analyze', ['verify', '--man=no', ...files]);
  t.is(stderr, '');
});

test('a signal before the disk is there leaves no mount behind', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { image, mnt } = await place(t);
  for (let delay = 50; delay < 600; delay += 50) {
    const { child, ended } = start(t, [...ourselves(), 'mount', '--foreground', image, mnt], {});
    await sleep(delay);
    child.kill('SIGTERM');
    await ended;
    t.false(await isMounted(mnt), String(delay));
  }
});

test('--log-file gets what the server says, with the time once', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const { folder, image, mnt } = await place(t);
  const file = join(folder, 'blockfuse.log');
  const env = { ...process.env, DEBUG: 'blockfuse:server' };
  await writeFile(file, 'what was there\n');
  await blockfuse(['mount', '--log-file', file, image, mnt], { env });
  await blockfuse(['unmount', mnt]);
  const [before, ...lines] = (await readFile(file, 'utf8')).trimEnd().split('\n');
  t.is(before, 'what was there');
  t.true(lines.length > 1);
  for (const line of lines) {
    t.regex(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z blockfuse\[\d+\]: /);
    t.is(line.match(/\d{4}-\d\d-\d\dT/g)?.length, 1, line);
  }
  t.regex(lines.join('\n'), /\]: blockfuse:server serving /);
  const refused = await attempt(process.execPath, [
    program(),
    'mount',
    '--log-file',
    join(mnt, 'no/such'),
    image,
    mnt,
  ]);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /^blockfuse: Cannot write log file ".*no\/such": no such file/);
});

test('--log-file of serve: opened anew by SIGHUP; a failed start is told there and on standard error', async (t) => {
  const folder = await tempDir(t);
  const file = join(folder, 'blockfuse.log');
  const env = { DEBUG: 'blockfuse:*,-blockfuse:data' };
  const pidfile = join(folder, 'pid');
  await blockfuse(['serve', '--daemonize', '--pidfile', pidfile, '--log-file', file], {
    env: { ...process.env, ...env },
  });
  const pid = Number(await readFile(pidfile, 'utf8'));
  await rename(file, `${file}.1`);
  process.kill(pid, 'SIGHUP');
  await until(() => existsSync(file), 'the log');
  process.kill(pid, 'SIGTERM');
  await until(() => !existsSync(pidfile), 'the end');
  t.regex(await readFile(`${file}.1`, 'utf8'), /\]: blockfuse:server serving /);
  const isClosed = (): boolean => readFileSync(file, 'utf8').includes('blockfuse:server closed');
  await until(isClosed, 'the last line of the log');
  const failed = await attempt(process.execPath, [
    ...[program(), 'serve', '--log-file', file, '--blockdev', 'driver=file,node-name=n,filename=/no/such'],
  ]);
  t.is(failed.code, 1);
  t.regex(failed.stderr, /^blockfuse: Cannot open "\/no\/such" for writing: no such file/);
  t.regex(
    await readFile(file, 'utf8'),
    /Z blockfuse\[\d+\]: Cannot open "\/no\/such" for writing: no such file/,
  );
});

test('a log on a full disk ends nothing', (t) => {
  const log = new LogFile('/dev/full');
  log.add('one\n');
  log.add('two\n');
  t.throws(() => new LogFile('/no/such/file'), { message: /^Cannot write log file "\/no\/such\/file": / });
});

test('the journal gets severities and no time', async (t) => {
  const folder = await tempDir(t);
  const file = join(folder, 'journal');
  const fd = openSync(file, 'w');
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const env = { JOURNAL_STREAM: `${dev}:${ino}`, DEBUG: 'blockfuse:*' };
  await writeFile(join(folder, 'image'), Buffer.alloc(65_536));
  await start(t, [...ourselves(), 'info', join(folder, 'missing')], env, fd).ended;
  const { child, ended } = start(
    t,
    [...ourselves(), 'mount', '--foreground', join(folder, 'image'), folder],
    env,
    fd,
  );
  await until(() => existsSync(join(folder, 'image.raw')), 'the disk');
  child.kill('SIGTERM');
  await ended;
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  for (const line of lines) t.regex(line, /^<[347]>(?!\d{4}-|blockfuse: )/);
  t.regex(lines.join('\n'), /^<3>Cannot open ".*missing": no such file/m);
  t.regex(lines.join('\n'), /^<7>blockfuse:server serving /m);
});
