import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { LATENCY_BOUNDS, LATENCY_BUCKETS } from '../../mount/latency.ts';
import { rowsBetween } from '../../src/cli/top/rows.ts';
import { tableLines } from '../../src/cli/top/table.ts';
import type { ExportStats, NodeStats, StatsReport } from '../../src/control/stats.ts';
import { mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse, program } from '../helpers/program.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { terminal } from '../helpers/terminal.ts';
import { canRun } from '../helpers/tools.ts';

const TRAFFIC = {
  ...{ reads: 0, 'read-bytes': 0, writes: 0, 'written-bytes': 0, zeroes: 0, discards: 0, flushes: 0 },
  ...{ slow: 0, errors: 0, 'in-flight': 0, size: 1 << 30, allocated: 1 << 20 },
};
const NO_TIMES = { buckets: Array.from({ length: LATENCY_BUCKETS }, () => 0), total: 0 };

function exportStats(given: Partial<ExportStats>): ExportStats {
  const latency = { read: NO_TIMES, write: NO_TIMES, zero: NO_TIMES, discard: NO_TIMES, flush: NO_TIMES };
  const place = { file: '/m/n0.raw', mountpoint: '/m', writable: true, passthrough: false };
  return { ...TRAFFIC, id: 'e0', node: 'n0', ...place, latency, ...given };
}

function report(time: number, exports: ExportStats[], nodes: NodeStats[] = []): StatsReport {
  const server = { pid: 7, version: '1', started: 'x', uptime: 100, memory: 1, 'cpu-seconds': 1 };
  return { ...server, time, 'latency-bounds': LATENCY_BOUNDS, exports, nodes };
}

test('rowsBetween: rates of the time between, times of the requests in it', (t) => {
  const buckets = (at: number, count: number): number[] =>
    Array.from({ length: LATENCY_BUCKETS }, (_, index) => (index === at ? count : 0));
  const latency = exportStats({}).latency;
  const before = exportStats({
    reads: 100,
    latency: { ...latency, read: { buckets: buckets(20, 100), total: 1 } },
  });
  const now = exportStats({
    reads: 300,
    'read-bytes': 2 << 20,
    latency: { ...latency, read: { buckets: buckets(20, 100).with(3, 50), total: 2 } },
  });
  const [row] = rowsBetween(report(1000, [before]), report(3000, [now]));
  t.like(row, { reads: 100, readBytes: 1 << 20, writes: 0 });
  t.true((row?.p99 ?? 0) > 4 && (row?.p99 ?? 0) <= 8, 'what was slow before is not counted');
  const anew = exportStats({ reads: 40 });
  t.is(rowsBetween(report(1000, [before]), report(3000, [anew]))[0]?.reads, 20, 'made anew: it begins at 0');
  t.is(rowsBetween(undefined, report(3000, [now]))[0]?.reads, 3, 'since the start');
});

test('tableLines: fits 80 columns whatever the numbers; names can not steer the terminal', (t) => {
  const huge = { reads: 1e12, 'read-bytes': 1e16, writes: 123_456, 'written-bytes': 1e9, errors: 5 };
  const node = {
    ...{ ...TRAFFIC, ...huge, 'in-flight': 65_535, allocated: 2 ** 50 - 1 },
    ...{ name: 'x'.repeat(200), driver: 'qcow2', kind: 'format' as const, filename: '' },
    caches: [{ name: 'l2', hits: 999, misses: 1, bytes: 1, capacity: 2 }],
  };
  const now = report(
    2000,
    [exportStats({ ...huge, id: '\x1b[31mred\r\n\u202E', passthrough: true })],
    [node],
  );
  const rows = rowsBetween(report(1000, [exportStats({})]), now);
  for (const groups of [
    [{ title: 'one', rows }],
    [
      { title: 'one', rows },
      { title: '\x1b[2J', rows: [] },
    ],
  ]) {
    const lines = tableLines(groups, 80);
    for (const { text } of lines) {
      t.true(text.length <= 80, text);
      t.false(/[\p{Cc}\p{Cf}]/u.test(text), text);
    }
    t.true(
      lines.some(({ text }) => /^ {2}qcow2 xx+… +1T .* 99 65\.5k +1 PiB$/.test(text)),
      JSON.stringify(lines),
    );
    t.true(lines.some(({ text, kind }) => kind === 'problem' && text.startsWith('! ?[31mred')));
  }
});

test('top in a terminal of 80 columns: a live table, resized, left by "q"', async (t) => {
  if (!canRun(t, 'tmux', 'qemu-img')) return;
  const folder = await tempDir(t);
  const [base, image] = [join(folder, 'base.qcow2'), join(folder, 'overlay.qcow2')];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, '64M']);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', image]);
  const { file, mountpoint } = await mountImage(t, image);
  const command = `${process.execPath} ${program()} top --interval 0.3 ${mountpoint}`;
  const screen = await terminal(t, command, { columns: 80, rows: 20 });
  await screen.until(/^blockfuse top .*since the start {2}\(q quits\)\n(.*\n)*overlay\.raw /m);
  await writeFile(file, Buffer.alloc(8 << 20, 7));
  const shown = await screen.until(/every 0\.3 s/);
  t.regex(shown, /^NAME +READ\/s +MiB\/s WRITE\/s +MiB\/s +P50 +P99 HIT% +WAIT +ALLOC$/m);
  t.regex(shown, /^ {2}qcow2 overlay .*iB\n {2}qcow2 base.*… .*iB\n {2}file base.*… .*iB$/m);
  t.true(shown.split('\n').every((line) => line.length <= 80));
  t.true((await screen.screen(true)).includes('\x1b[7m'), 'coloured');
  await screen.resize(100, 5);
  await screen.until(/\.\.\. \d more lines than this terminal has/);
  await screen.type('q');
  t.notRegex(await screen.until(/ended with 0/), /READ/, 'the screen is as it was');
});

test('top: NO_COLOR; its server ends', async (t) => {
  if (!canRun(t, 'tmux')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.raw');
  await writeFile(image, Buffer.alloc(1 << 20));
  const mount = await mountImage(t, image, ['-f', 'raw']);
  const command = `NO_COLOR=1 ${process.execPath} ${program()} top -d 0.2 ${mount.mountpoint}`;
  const screen = await terminal(t, command, { columns: 80, rows: 10 });
  await screen.until(/every 0\.2 s/);
  t.false((await screen.screen(true)).includes('\x1b['));
  await mount.unmount();
  await screen.until(/the server of ".*" has ended\nended with 0/);
});

test('top without a terminal: plain tables; wrong options', async (t) => {
  const folder = await tempDir(t);
  const image = join(folder, 'a.raw');
  await writeFile(image, Buffer.alloc(1 << 20));
  const { mountpoint } = await mountImage(t, image, ['-f', 'raw']);
  const { stdout } = await blockfuse(['top', '--count', '2', '-d', '0.2', mountpoint]);
  t.is(stdout.match(/^\d{4}-\d\d-\d\dT.*Z\nNAME +READ\/s/gm)?.length, 2);
  t.is(stdout.match(/^ {2}raw a +0 /gm)?.length, 2);
  t.false(stdout.includes('\x1b'));
  t.is((await blockfuse(['top', '--once', '-d', '0.1', mountpoint])).stdout.match(/^NAME/gm)?.length, 1);
  for (const wrong of [
    ['-d', '0'],
    ['-d', 'x'],
    ['-n', '0'],
  ])
    t.is((await attemptBlockfuse(['top', ...wrong])).code, 2);
});
