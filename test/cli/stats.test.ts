import { constants } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { LATENCY_BOUNDS, LATENCY_BUCKETS, Latency } from '../../mount/latency.ts';
import { percentile } from '../../src/cli/stats/percentile.ts';
import { renderPrometheus } from '../../src/cli/stats/prometheus.ts';
import type { StatsReport } from '../../src/control/stats.ts';
import { checkExposition } from '../helpers/exposition.ts';
import { mountedDisk } from '../helpers/mounted-disk.ts';
import { mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MiB = 1 << 20;

async function statsOf(server: string | number): Promise<StatsReport> {
  const { stdout } = await blockfuse(['stats', '--json', String(server)]);
  const [report] = JSON.parse(stdout) as StatsReport[];
  if (report === undefined) throw new Error('no server');
  return report;
}

const sum = (values: readonly number[] = []): number => values.reduce((before, value) => before + value, 0);

test('stats counts exactly what went through a mount, and times it', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M']);
  const { file, pid, mountpoint } = await mountImage(t, image);
  const disk = await mountedDisk(t, file, constants.O_DIRECT);
  const before = await statsOf(pid);
  const page = Buffer.alloc(4096, 7);
  for (let index = 0; index < 300; index += 1) await disk.write(page, index * 4096);
  for (let index = 0; index < 200; index += 1) await disk.read(page, index * 4096);
  await disk.discard?.(0, MiB);
  await disk.zero?.(MiB, 65_536, false);
  await disk.flush();
  const after = await statsOf(mountpoint);
  const [was, now] = [before.exports[0], after.exports[0]];
  t.like(now, { id: 'mount', node: 'a', file, mountpoint, writable: true, size: 16 * MiB, errors: 0 });
  t.is((now?.writes ?? 0) - (was?.writes ?? 0), 300);
  t.is((now?.['written-bytes'] ?? 0) - (was?.['written-bytes'] ?? 0), 300 * 4096);
  t.is((now?.reads ?? 0) - (was?.reads ?? 0), 200);
  t.is((now?.['read-bytes'] ?? 0) - (was?.['read-bytes'] ?? 0), 200 * 4096);
  t.like(now, { discards: 1, zeroes: 1, 'in-flight': 0 });
  t.true((now?.flushes ?? 0) >= 1);
  t.true((now?.slow ?? 0) > 0, 'an allocating write can not be answered at once');
  t.true((now?.allocated ?? 0) > 0);
  t.deepEqual(after['latency-bounds'], LATENCY_BOUNDS);
  for (const { buckets, total } of Object.values(now?.latency ?? {})) {
    t.is(buckets.length, LATENCY_BUCKETS);
    t.is(total > 0, sum(buckets) > 0);
  }
  const { read, discard } = now?.latency ?? {};
  t.true(Math.abs(sum(read?.buckets) - (now?.reads ?? 0)) <= 16, 'samples stand for all reads');
  t.is(sum(discard?.buckets), 1);
  const node = after.nodes.find(({ name }) => name === 'a');
  t.like(node, { driver: 'qcow2', kind: 'format', size: 16 * MiB });
  const l2 = node?.caches.find(({ name }) => name === 'l2');
  t.true((l2?.hits ?? 0) >= 400 && (l2?.bytes ?? 0) > 0 && (l2?.capacity ?? 0) >= (l2?.bytes ?? 0));
  const text = (await blockfuse(['stats', mountpoint])).stdout;
  t.regex(text, /^export "mount": .*a\.raw, node a: 16 MiB, .* allocated\n/m);
  t.regex(text, /^ {2}write +3\d\d +1\.17 MiB +\d/m);
});

test('stats: decompressed clusters that are read again are hits', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const [raw, image] = [join(folder, 'a.raw'), join(folder, 'a.qcow2')];
  await writeFile(raw, Buffer.alloc(2 * MiB, 'compress me '));
  await run('qemu-img', ['convert', '-c', '-O', 'qcow2', raw, image]);
  const { file, pid } = await mountImage(t, image);
  const disk = await mountedDisk(t, file, constants.O_DIRECT);
  const bytes = Buffer.alloc(65_536);
  for (let round = 0; round < 2; round += 1)
    for (let at = 0; at < 2 * MiB; at += bytes.length) await disk.read(bytes, at);
  const { nodes } = await statsOf(pid);
  const cache = nodes
    .find(({ driver }) => driver === 'qcow2')
    ?.caches.find(({ name }) => name === 'decompressed');
  t.is(cache?.misses, 32);
  t.true((cache?.hits ?? 0) >= 32);
  await disk.close();
});

test('stats of several servers, of none, and wrong uses', async (t) => {
  const served = await serve(t, ['--blockdev', 'null-co,node-name=n0,size=1M']);
  const other = await serve(t);
  const { stdout } = await blockfuse(['stats', '--json', '--all']);
  const pids = (JSON.parse(stdout) as StatsReport[]).map(({ pid }) => pid);
  t.true(pids.includes(served.child.pid ?? 0) && pids.includes(other.child.pid ?? 0));
  t.like((await statsOf(served.child.pid ?? 0)).nodes[0], { name: 'n0', driver: 'null-co', reads: 0 });
  const unknown = await attemptBlockfuse(['stats', served.folder]);
  t.is(unknown.code, 1);
  t.regex(unknown.stderr, /^blockfuse: Cannot show statistics of ".*": it is neither a server of yours/);
  t.is((await attemptBlockfuse(['stats', '--all', '1'])).code, 2);
  t.is((await attemptBlockfuse(['stats', '--json', '--prometheus'])).code, 2);
});

test('stats --prometheus: a name with quotes, backslashes and line ends stays one label', async (t) => {
  const served = await serve(t, ['--blockdev', 'null-co,node-name=n0,size=1M']);
  await mkdir(join(served.folder, 'm "1"\\\n'));
  const mountpoint = join(served.folder, 'm "1"\\\n');
  const id = { type: 'fuse', id: 'e0', 'node-name': 'n0', mountpoint };
  await served.client.run('block-export-add', id);
  const { stdout } = await blockfuse(['stats', '--prometheus', String(served.child.pid)]);
  checkExposition(t, stdout);
  t.true(stdout.includes(String.raw`m \"1\"\\\n/n0.raw`));
  await served.client.run('block-export-del', { id: 'e0' });
});

test('renderPrometheus: the last bucket is the count', (t) => {
  const latency = { buckets: Array.from({ length: LATENCY_BUCKETS }, () => 2), total: 1_000_000 };
  const traffic = {
    ...{ reads: 1, 'read-bytes': 2, writes: 3, 'written-bytes': 4, zeroes: 5, discards: 6, flushes: 7 },
    ...{ slow: 8, errors: 9, 'in-flight': 10, size: 11 },
  };
  const disk = { id: 'e', node: 'n', file: '/f', mountpoint: '/m', writable: true, passthrough: false };
  const text = renderPrometheus(
    [
      {
        ...{ pid: 1, version: '1.0.0', started: '2026-01-01T00:00:00.000Z', time: 0, uptime: 1, memory: 1 },
        ...{ 'cpu-seconds': 0.5, 'latency-bounds': LATENCY_BOUNDS, nodes: [] },
        exports: [
          {
            ...disk,
            ...traffic,
            latency: { read: latency, write: latency, zero: latency, discard: latency, flush: latency },
          },
        ],
      },
    ],
    false,
  );
  checkExposition(t, text);
  const labels = 'export="e",node="n",file="/f",operation="read"';
  const name = 'blockfuse_export_request_duration_seconds';
  t.true(text.includes(`\n${name}_bucket{${labels},le="+Inf"} ${2 * LATENCY_BUCKETS}\n`));
  t.true(text.includes(`\n${name}_count{${labels}} ${2 * LATENCY_BUCKETS}\n`));
  t.true(text.includes(`\n${name}_sum{${labels}} 1\n`));
  t.true(text.includes(`\n${name}_bucket{${labels},le="0.001024"} 22\n`));
});

test('Latency: a time is in the bucket whose bounds hold it', (t) => {
  const random = new Random(seed(5));
  for (let round = 0; round < 200; round += 1) {
    const latency = new Latency();
    const us = 2 ** (random.below(2600) / 100);
    latency.since(performance.now() - us / 1000, 1);
    const index = latency.buckets.indexOf(1);
    t.true(latency.total <= (LATENCY_BOUNDS[index] ?? Infinity));
    if (index > 0) t.true(latency.total > (LATENCY_BOUNDS[index - 1] ?? 0));
  }
  const weights = Array.from({ length: 1024 }, (_, before) => Latency.weight(before));
  t.is(sum(weights), 1024);
});

test('percentile lies where the requests lie', (t) => {
  const bounds = [1, 2, 4, 8];
  t.is(percentile({ buckets: [0, 0, 0, 0, 0] }, bounds, 0.5), undefined);
  t.is(percentile({ buckets: [0, 0, 10, 0, 0] }, bounds, 0.5), 3);
  t.is(percentile({ buckets: [50, 0, 0, 49, 1] }, bounds, 0.5), 1);
  t.is(percentile({ buckets: [50, 0, 0, 49, 1] }, bounds, 0.99), 8);
  t.is(percentile({ buckets: [0, 0, 0, 0, 3] }, bounds, 0.5), 8);
});
