/** How far long commands say they are. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { attemptBlockfuse, blockfuse, program } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { until } from '../helpers/until.ts';

const MiB = 1 << 20;
/** What a terminal got, with `<K>` where the rest of a line is cleared. */
const shown = ({ stdout }: { readonly stdout: string }): string => stdout.replaceAll('\u001B[K', '<K>');
/** A disk of which a request takes so long; there are about 32. */
const slow = (ms: number): string =>
  `json:{"driver":"null-co","size":"64M","latency-ns":${ms}000000,"read-zeroes":false}`;
/** SIGUSR1 in the set of signals that a process has handlers for. */
const CAUGHT_USR1 = 1n << 9n;

test('progress: on a terminal a bar at once and a last line, quiet elsewhere', async (t) => {
  if (!canRun(t, 'script')) return;
  const folder = await tempDir(t);
  const [raw, made] = [join(folder, 'a.raw'), join(folder, 'a.qcow2')];
  await writeFile(raw, Buffer.alloc(8 * MiB, 7));
  const convert = ['convert', '-O', 'qcow2', raw, made];
  const command = [process.execPath, program(), ...convert, '--progress', 'on'].join(' ');
  const stdout = shown(await run('script', ['-qec', command, '/dev/null'], { cwd: folder }));
  t.regex(stdout, /^\rconvert .*<K>/);
  t.regex(stdout, /\r<K>convert: 8 MiB, [\d.]+ [KMG]iB\/s, [\d.]+ s\r\n$/, 'the bar is gone, a line is left');
  const quick = await run('script', ['-qec', command.replace('progress on', 'progress auto'), '/dev/null']);
  t.notRegex(quick.stdout, /\d %|MiB/);
  t.is((await blockfuse(convert)).stderr, '');
  t.is((await blockfuse([...convert, '--progress=off'])).stderr, '');
  t.regex((await blockfuse([...convert, '--progress=on'])).stderr, /^convert: 8 MiB, .*\/s, [\d.]+ s\n$/);
  t.is((await attemptBlockfuse([...convert, '--progress=maybe'])).code, 2);
});

test('progress: on a terminal a bar with rate and time left, gone at the end; an error has a line of its own', async (t) => {
  if (!canRun(t, 'script')) return;
  const folder = await tempDir(t);
  const other = join(folder, 'other.raw');
  await writeFile(other, Buffer.alloc(64 * MiB));
  const command = `${process.execPath} ${program()} compare '${slow(200)}' ${other}`;
  const stdout = shown(await run('script', ['-qec', `stty cols 70; ${command}`, '/dev/null']));
  t.regex(stdout, /\rcompare \[[#.]+\] +\d+ % {2}[\d.]+ [KMG]?i?B\/s {2}[\d.]+ s left<K>/);
  for (const line of stdout.split(/[\r\n]+/)) t.true(line.replace('<K>', '').length < 70, line);
  t.regex(stdout, /<K>\r<K>Images are identical\.\r\n$/);
  const failing = `${process.execPath} ${program()} convert --progress on -O raw ${other} /dev/full/x`;
  const failed = await run('script', ['-qc', failing, '/dev/null']);
  t.regex(shown(failed), /(^|\n|\r|<K>)blockfuse: [^\r]*\r\n$/);
});

test('progress: on a terminal check tells how far it is', async (t) => {
  if (!canRun(t, 'script', 'qemu-img')) return;
  const image = join(await tempDir(t), 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', image, '1G']);
  const command = `${process.execPath} ${program()} check --progress on ${image}`;
  const stdout = shown(await run('script', ['-qec', `stty cols 70; ${command}`, '/dev/null']));
  t.regex(stdout, /^\rcheck .*<K>/);
  t.regex(stdout, /<K>check: [\d.]+ s\r\n/);
  t.regex(stdout, /No errors were found on the image\./);
});

test('progress: SIGUSR1 prints one line, wherever standard error goes', async (t) => {
  const child = spawn(process.execPath, [program(), 'compare', '--progress=off', slow(1000), slow(1000)]);
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  // Before that the signal ends a process.
  await until(() => (caughtBy(child.pid) & CAUGHT_USR1) !== 0n, 'a handler for SIGUSR1');
  while (child.exitCode === null && !stderr.includes('of 64 MiB')) {
    child.kill('SIGUSR1');
    await delay(200);
  }
  t.regex(stderr, /^compare: \d+\.\d %, \d+ MiB of 64 MiB, [\d.]+ .?i?B\/s, .* (left|so far)\n/m);
  child.kill('SIGKILL');
  await exited;
});

function caughtBy(pid = 0): bigint {
  const [, mask = '0'] = /^SigCgt:\s+(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return BigInt(`0x${mask}`);
}

test('progress: other long commands have it', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const [base, top] = [join(folder, 'base.qcow2'), join(folder, 'top.qcow2')];
  const created = await blockfuse(['create', '--progress=on', '-o', 'preallocation=full', base, '8M']);
  t.regex(created.stderr, /^create: 8\.?\d* MiB, /);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
  const stderrOf = async (...args: string[]): Promise<string> =>
    (await blockfuse([...args, '--progress=on'])).stderr;
  t.regex(await stderrOf('map', '--svg', top), /^map: 8 MiB, /);
  t.regex(await stderrOf('measure', '-O', 'qcow2', top), /^measure: 8 MiB, /);
  t.regex(await stderrOf('resize', top, '9M'), /^resize: [\d.]+ s\n$/);
  t.regex(await stderrOf('snapshot', 'create', top, 's'), /^snapshot: [\d.]+ s\n$/);
  t.regex(await stderrOf('amend', '-o', 'lazy_refcounts=on', top), /^amend: [\d.]+ s\n$/);
  t.regex(await stderrOf('check', top), /^check: [\d.]+ s\n$/);
  t.regex(await stderrOf('rebase', '-b', '', top), /^rebase: \d+ MiB, /);
});
