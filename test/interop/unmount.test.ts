/** Unmounting when it is not simple: the image is final when the command returns. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { isAlive, mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot, tool } from '../helpers/tools.ts';

test('a copy of the mount in another mount namespace does not keep the image open', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'unshare')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
  const mounted = await mountImage(t, image);
  const elsewhere = spawn(
    tool('unshare'),
    ['--mount', '--propagation', 'private', 'sh', '-c', 'echo in; exec sleep 60'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  t.teardown(async () => {
    elsewhere.kill('SIGKILL');
    await once(elsewhere, 'close');
  });
  await once(elsewhere.stdout, 'data');
  const file = await open(mounted.file, 'r+');
  await file.write(Buffer.alloc(65_536, 1), 0, 65_536, 0);
  await file.close();
  await mounted.unmount();
  const { stdout } = await run('qemu-img', ['map', '--output=json', image]);
  t.regex(stdout, /"start": 0, "length": 65536, .*"data": true/);
  await run('qemu-img', ['check', image]);
});

const ROUNDS = process.env['BLOCKFUSE_SOAK'] === '1' ? 50 : 3;
const WRITERS = 3;
const BLOCK = 16_384;
const BLOCKS_EACH = 1024;

/** Fills its part of a file with numbered blocks until it is refused; prints how many were taken. */
const WRITER = `
  const fs = require('node:fs');
  const [file, first, count, size] = process.argv.slice(1);
  const fd = fs.openSync(file, 'r+');
  const bytes = Buffer.alloc(Number(size));
  let done = 0;
  process.stdout.write('go ');
  try {
    for (; done < Number(count); done += 1) {
      const number = Number(first) + done;
      for (let at = 0; at < bytes.length; at += 8) bytes.writeDoubleLE(number, at);
      fs.writeSync(fd, bytes, 0, bytes.length, number * bytes.length);
    }
  } catch {}
  process.stdout.write(String(done));
  try { fs.closeSync(fd); } catch {}
`;

interface Writer {
  readonly first: number;
  /** Resolves to the number of blocks that it was told are written. */
  readonly ended: Promise<number>;
}

async function startWriters(t: ExecutionContext, file: string): Promise<Writer[]> {
  const writers: Writer[] = [];
  for (let index = 0; index < WRITERS; index += 1) {
    const first = index * BLOCKS_EACH;
    const args = ['-e', WRITER, file, String(first), String(BLOCKS_EACH), String(BLOCK)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', (text: Buffer) => {
      said += text.toString();
    });
    await once(child.stdout, 'data');
    writers.push({ first, ended: once(child, 'close').then(() => Number(said.slice('go '.length))) });
  }
  return writers;
}

/** What was acknowledged is in the image, as QEMU reads it, at once. */
async function judge(t: ExecutionContext, image: string, writers: readonly Writer[]): Promise<void> {
  const { mtimeNs, size } = await stat(image, { bigint: true });
  await run('qemu-img', ['check', '-q', image]);
  const flat = `${image}.flat`;
  await run('qemu-img', ['convert', '-O', 'raw', image, flat]);
  const bytes = await readFile(flat);
  for (const { first, ended } of writers) {
    const count = await ended;
    for (let number = first; number < first + count; number += 1) {
      const [start, end] = [bytes.readDoubleLE(number * BLOCK), bytes.readDoubleLE((number + 1) * BLOCK - 8)];
      if (start !== number || end !== number)
        throw new Error(`block ${number} of ${count}: ${start}, ${end}`);
    }
  }
  const later = await stat(image, { bigint: true });
  t.deepEqual([later.mtimeNs, later.size], [mtimeNs, size], 'nobody writes to it any more');
}

const underLoad = test.macro(async (t: ExecutionContext, lazy: boolean) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  const folder = `${image}.mnt`;
  await mkdir(folder);
  for (let round = 0; round < ROUNDS; round += 1) {
    const mounted = await mountImage(t, image, [folder]);
    const writers = await startWriters(t, mounted.file);
    await sleep(20 + 60 * round);
    // A mount in use is refused: then when the last byte was taken, and not a moment later.
    if (!lazy) await Promise.all(writers.map(({ ended }) => ended));
    await blockfuse(['unmount', ...(lazy ? ['--lazy'] : []), folder]);
    t.false(await isAlive(mounted.pid), 'the server is gone');
    await judge(t, image, writers);
    await mounted.unmount();
  }
});

test.serial('an unmount right after the last byte, and a mount right after that', underLoad, false);
test.serial('a lazy unmount under writers: what they were told is written is in the image', underLoad, true);

test.serial('a mount in use is refused, naming who uses it, and goes on', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  const mounted = await mountImage(t, image);
  const writers = await startWriters(t, mounted.file);
  // The writers may be through before the command is there.
  const holder = await open(mounted.file);
  const refused = await attemptBlockfuse(['unmount', mounted.mountpoint]);
  await holder.close();
  t.is(refused.code, 1);
  t.regex(refused.stderr, /in use.*node/i);
  for (const { ended } of writers) t.is(await ended, BLOCKS_EACH);
  await mounted.unmount();
  await judge(t, image, writers);
});

test.serial('the last thing that the server does to the image is a sync', async (t) => {
  if (!canRun(t, 'qemu-img', 'strace') || !isRoot(t)) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
  const mounted = await mountImage(t, image);
  const calls = `${image}.calls`;
  const what = 'trace=pwrite64,pwritev,pwritev2,fallocate,ftruncate,fsync,fdatasync,exit_group';
  const tracer = spawn(tool('strace'), ['-f', '-y', '-e', what, '-o', calls, '-p', String(mounted.pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => tracer.kill('SIGKILL'));
  const ended = once(tracer, 'exit');
  await once(tracer.stderr, 'data');
  const writers = await startWriters(t, mounted.file);
  for (const { ended } of writers) t.is(await ended, BLOCKS_EACH);
  await mounted.unmount();
  await ended;
  const lines = (await readFile(calls, 'utf8')).split('\n').filter((line) => line.includes(`<${image}>`));
  t.true(lines.some((line) => line.includes('pwrite')));
  t.regex(lines.at(-1) ?? '', /f(data)?sync/);
});
