/** `info`, `map`, `formats`, help: compared with what qemu-img says about the same images. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { COMMANDS } from '../../src/cli/commands.ts';
import { blockfuse } from '../helpers/command.ts';
import { program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

type Json = Record<string, unknown>;

/** Makes an image in the test's folder and returns its name there. */
type Make = (folder: string) => Promise<string>;

const io = (folder: string, image: string, ...commands: readonly string[]) =>
  run('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], { cwd: folder });
const create = (folder: string, ...args: readonly string[]) =>
  run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args], { cwd: folder });

const plain: Make = async (folder) => {
  await create(folder, 'plain.qcow2', '64M');
  await io(
    folder,
    'plain.qcow2',
    'write -P 1 0 1M',
    'write -P 1 3M 65k',
    'write -z 8M 1M',
    'discard 64k 64k',
  );
  return 'plain.qcow2';
};
const chain: Make = async (folder) => {
  await create(folder, 'base.qcow2', '32M');
  await io(folder, 'base.qcow2', 'write -P 1 0 1M', 'write -z 4M 1M');
  await create(folder, '-b', 'base.qcow2', '-F', 'qcow2', 'middle.qcow2', '64M');
  await io(folder, 'middle.qcow2', 'write -P 2 512k 1M');
  await create(folder, '-b', 'middle.qcow2', '-F', 'qcow2', 'top.qcow2');
  await io(folder, 'top.qcow2', 'write -P 3 256k 64k', 'write -z 40M 64k');
  return 'top.qcow2';
};
const compressed: Make = async (folder) => {
  const source = await plain(folder);
  await run('qemu-img', ['convert', '-c', '-O', 'qcow2', source, 'packed.qcow2'], { cwd: folder });
  return 'packed.qcow2';
};
const snapshots: Make = async (folder) => {
  const image = await plain(folder);
  for (const name of ['one', 'two words'])
    await run('qemu-img', ['snapshot', '-c', name, image], { cwd: folder });
  await io(folder, image, 'write -P 9 0 64k');
  return image;
};
const old: Make = async (folder) => {
  await create(folder, '-o', 'compat=0.10,cluster_size=4k', 'old.qcow2', '16M');
  await io(folder, 'old.qcow2', 'write -P 1 4k 4k', 'write -P 1 1M 12k');
  return 'old.qcow2';
};
const sparseRaw: Make = async (folder) => {
  await run('qemu-img', ['create', '-q', '-f', 'raw', 'flat.raw', '16M'], { cwd: folder });
  await run('qemu-io', ['-f', 'raw', '-c', 'write -P 1 4M 1M', 'flat.raw'], { cwd: folder });
  return 'flat.raw';
};

const json = async (t: ExecutionContext, folder: string, args: readonly string[]): Promise<unknown> => {
  const outcome = await blockfuse(args, { cwd: folder });
  t.is(outcome.code, 0, outcome.stderr);
  return JSON.parse(outcome.stdout);
};

/** Keys that the installed qemu-img prints; newer ones have more. */
function onlyKeysOf(ours: Json, theirs: Json): Json {
  return Object.fromEntries(Object.entries(ours).filter(([key]) => key in theirs));
}

const sameInfo = test.macro(async (t, make: Make) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = await make(folder);
  const args = ['info', '--backing-chain', image];
  const { stdout } = await run('qemu-img', [...args, '--output=json'], { cwd: folder });
  const theirs = JSON.parse(stdout) as Json[];
  const ours = (await json(t, folder, [...args, '--json'])) as Json[];
  t.is(ours.length, theirs.length);
  for (const [index, expected] of theirs.entries()) {
    const actual = onlyKeysOf(ours[index] ?? {}, expected);
    // A backing file is called by its whole path here, by a relative one there.
    if (index > 0) t.is(basename(String(actual['filename'])), String(expected['filename']));
    const paths = ['filename', 'full-backing-filename'].filter((key) => index > 0 && key in expected);
    t.deepEqual(without(actual, paths), without(expected, paths));
  }
});

function without(tree: Json, keys: readonly string[]): Json {
  return Object.fromEntries(Object.entries(tree).filter(([key]) => !keys.includes(key)));
}

test('info: qcow2', sameInfo, plain);
test('info: chain', sameInfo, chain);
test('info: snapshots', sameInfo, snapshots);
test('info: version 2', sameInfo, old);
test('info: raw', sameInfo, sparseRaw);

const sameMap = test.macro(async (t, make: Make) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = await make(folder);
  const { stdout } = await run('qemu-img', ['map', '--output=json', image], { cwd: folder });
  const theirs = JSON.parse(stdout) as Json[];
  const ours = (await json(t, folder, ['map', '--json', image])) as Json[];
  t.deepEqual(
    ours.map((entry, index) => onlyKeysOf(entry, theirs[index] ?? {})),
    theirs,
  );
});

test('map: qcow2', sameMap, plain);
test('map: chain', sameMap, chain);
test('map: compressed', sameMap, compressed);
test('map: version 2', sameMap, old);
test('map: raw with holes', sameMap, sparseRaw);

test('info and map for people', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io')) return;
  const folder = await tempDir(t);
  const image = await snapshots(folder);
  const info = await blockfuse(['info', image], { cwd: folder });
  t.regex(
    info.stdout,
    /^image: plain\.qcow2\nfile format: qcow2\nvirtual size: 64 MiB \(67108864 bytes\)\ndisk size: /,
  );
  t.regex(info.stdout, /^2 +two words +0 B +20/m);
  t.regex(info.stdout, /^ {4}refcount bits: 16$/m);
  const map = await blockfuse(['map', image], { cwd: folder });
  t.regex(map.stdout, /^Offset +Length +Mapped to +File\n0 +0x10000 +0x\w+ +plain\.qcow2\n/);
});

test('a locked image is refused, naming the holder; --force-share reads it', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-storage-daemon')) return;
  const folder = await tempDir(t);
  await create(folder, 'held.qcow2', '1M');
  const blockdev = `driver=qcow2,node-name=n,file.driver=file,file.filename=${join(folder, 'held.qcow2')}`;
  const nbd = `addr.type=unix,addr.path=${join(folder, 'sock')}`;
  const daemon = spawn('qemu-storage-daemon', [
    ...['--blockdev', blockdev, '--nbd-server', nbd],
    ...['--export', 'nbd,id=e,node-name=n,writable=on', '--pidfile', join(folder, 'pid')],
  ]);
  t.teardown(() => daemon.kill('SIGKILL'));
  while (!existsSync(join(folder, 'pid'))) await sleep(20);
  const refused = await blockfuse(['info', 'held.qcow2'], { cwd: folder });
  t.is(refused.code, 1);
  t.regex(refused.stderr, /lock/i);
  t.regex(refused.stderr, new RegExp(`process ${daemon.pid} \\(qemu-storage`));
  t.like(await json(t, folder, ['info', '-U', '--json', 'held.qcow2']), { 'virtual-size': 1048576 });
  t.is(((await json(t, folder, ['map', '-U', '--json', 'held.qcow2'])) as Json[]).length, 1);
});

test('info of what is no image, or not there', async (t) => {
  const folder = await tempDir(t);
  const missing = await blockfuse(['info', 'nix'], { cwd: folder });
  t.is(missing.code, 1);
  t.regex(missing.stderr, /^blockfuse: Cannot open "nix".*no such file/);
  await writeFile(join(folder, 'text'), 'hello');
  t.like(await json(t, folder, ['info', '--json', 'text']), { format: 'raw' });
  const wrong = await blockfuse(['info', '-f', 'qcow2', 'text'], { cwd: folder });
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /^blockfuse: Cannot open .*"text"/);
});

test('help shows every command, and every option with its description', async (t) => {
  const help = await blockfuse(['--help']);
  t.is(help.code, 0);
  for (const { name } of COMMANDS) t.regex(help.stdout, new RegExp(`^  ${name} `, 'm'));
  for (const command of COMMANDS) {
    const { stdout } = await blockfuse([command.name, '--help']);
    for (const name of Object.keys(command.options)) {
      t.regex(stdout, new RegExp(`--${name}( <[\\w-]+>)?\\s+[A-Z]`), `${command.name} --${name}`);
    }
  }
});

test('no command is a usage error, --version is not', async (t) => {
  const nothing = await blockfuse([]);
  t.is(nothing.code, 2);
  t.regex(nothing.stderr, /^Usage: blockfuse/);
  const version = await blockfuse(['--version']);
  t.is(version.code, 0);
  t.regex(version.stdout, /^\d+\.\d+\.\d+\n$/);
  t.is((await blockfuse(['help', 'mount'])).code, 0);
});

test('an old Node is refused in one line', async (t) => {
  const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.14.0' } })`;
  const bundle = join(import.meta.dirname, '../../dist/blockfuse.js');
  const args = [`--import=data:text/javascript,${encodeURIComponent(pretend)}`, bundle, 'list'];
  const outcome = await attempt(process.execPath, args);
  t.is(outcome.code, 2);
  t.is(outcome.stderr, 'blockfuse: needs Node.js 22.15 or later, this is 22.14.0\n');
});

test('formats lists the drivers', async (t) => {
  const rows = (await json(t, '.', ['formats', '--json'])) as { name: string; kind: string }[];
  t.true(rows.some(({ name, kind }) => name === 'qcow2' && kind === 'format'));
  t.true(rows.some(({ name, kind }) => name === 'file' && kind === 'protocol'));
});

test('output that is not read to its end is no error, output that can not be written is one', async (t) => {
  const shell = (script: string) => attempt('bash', ['-c', script, process.execPath, program()]);
  const head = await shell('"$0" "$1" help convert | head -n 1; exit "${PIPESTATUS[0]}"');
  t.is(head.code, 0, head.stderr);
  t.deepEqual([head.stdout.split('\n').length, head.stderr], [2, '']);
  const full = await shell('"$0" "$1" formats >/dev/full');
  t.is(full.code, 1);
  t.regex(full.stderr, /^blockfuse: cannot write to standard output: .*no space left on device/);
});
