import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { placeLabels } from '../../src/cli/graph/labels.ts';
import { layOut } from '../../src/cli/graph/layout.ts';
import type { Box, Layout } from '../../src/cli/graph/layout.ts';
import type { GraphDescription } from '../../src/control/describe-graph.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { attempt } from '../helpers/run.ts';
import { serve } from '../helpers/serve.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

function overlaps(boxes: readonly Box[], { places }: Layout): string[] {
  const found: string[] = [];
  for (const one of boxes) {
    for (const other of boxes) {
      const [a, b] = [places.get(one.id), places.get(other.id)];
      if (one.id >= other.id || a === undefined || b === undefined) continue;
      const isApart =
        Math.abs(a.x - b.x) >= (one.width + other.width) / 2 ||
        Math.abs(a.y - b.y) >= (one.height + other.height) / 2;
      if (!isApart) found.push(`${one.id} ${other.id}`);
    }
  }
  return found;
}

test('layOut: no two boxes overlap, all lie inside, every line goes down', (t) => {
  const random = new Random(seed(11));
  for (let round = 0; round < 200; round += 1) {
    const count = random.between(1, 25);
    const boxes = Array.from({ length: count }, (_, index) => ({
      id: `n${index}`,
      width: random.between(20, 200),
      height: random.between(20, 80),
    }));
    const lines = Array.from({ length: random.below(40) }, () => {
      const from = random.below(count);
      return { from: `n${from}`, to: `n${from + random.between(1, 5)}` };
    }).filter(({ to }) => Number(to.slice(1)) < count);
    const layout = layOut(boxes, lines);
    t.deepEqual(overlaps(boxes, layout), []);
    for (const { id, width, height } of boxes) {
      const { x, y } = layout.places.get(id) ?? { x: -1, y: -1 };
      t.true(x - width / 2 >= 0 && x + width / 2 <= layout.width, id);
      t.true(y - height / 2 >= 0 && y + height / 2 <= layout.height, id);
    }
    for (const points of layout.lines)
      for (const [index, { y }] of points.entries()) t.true(y >= (points[index - 1]?.y ?? 0));
  }
});

test('placeLabels: two lines to one box, a short way', (t) => {
  const size = { width: 120, height: 29, joins: true };
  const lines = [
    {
      line: [
        { x: 195, y: 196 },
        { x: 242, y: 274 },
      ],
      ...size,
    },
    {
      line: [
        { x: 288, y: 196 },
        { x: 242, y: 274 },
      ],
      ...size,
    },
    {
      line: [
        { x: 288, y: 196 },
        { x: 242, y: 274 },
      ],
      ...size,
      width: 0,
      height: 0,
    },
  ];
  const [one, other, none] = placeLabels(lines, [{ x: 242, y: 302, width: 130, height: 56 }]);
  t.is(none, undefined);
  const apart = {
    x: Math.abs((one?.x ?? 0) - (other?.x ?? 0)),
    y: Math.abs((one?.y ?? 0) - (other?.y ?? 0)),
  };
  t.true(apart.x >= 120 || apart.y >= 29, JSON.stringify([one, other]));
});

test('graph of a server: nodes, roles, permissions, exports; as text, JSON, DOT and SVG', async (t) => {
  const { client, folder, child } = await serve(t);
  await mkdir(join(folder, 'mnt'));
  const file = { driver: 'mem', size: 1 << 20, 'node-name': 'm0' };
  await client.run('blockdev-add', { driver: 'raw', 'node-name': 'r0', file });
  const id = { type: 'fuse', id: 'e0', 'node-name': 'r0', writable: true };
  await client.run('block-export-add', { ...id, mountpoint: join(folder, 'mnt') });
  const pid = String(child.pid);
  const graph = JSON.parse((await blockfuse(['graph', '--json', pid])).stdout) as GraphDescription;
  t.like(graph.roots[0], { label: 'export "e0"', writable: true, file: join(folder, 'mnt', 'r0.raw') });
  const edge = graph.edges.find(({ child: below }) => below === 'm0');
  t.like(edge, { parent: 'r0', name: 'file', roles: ['data', 'primary'] });
  t.deepEqual(edge?.uses, ['consistent-read', 'write']);
  t.like(
    graph.nodes.find(({ name }) => name === 'r0'),
    { driver: 'raw', size: 1 << 20, allocated: 0, 'read-only': false },
  );
  const { stdout: text } = await blockfuse(['graph', join(folder, 'mnt')]);
  t.is((await blockfuse(['graph', join(folder, 'qmp.sock')])).stdout, text);
  t.regex(
    text,
    /export "e0".*\n└─ e0 \[rw\/rwus\]: r0 \(raw\): 1 MiB, 0 % stored\n {3}└─ file \(data \+ primary\)/,
  );
  t.regex(
    (await blockfuse(['graph', '--dot', pid])).stdout,
    /"r0" -> "m0" \[label="file rw\\ndata \+ primary"\]/,
  );
  const { stdout: svg } = await blockfuse(['graph', '--svg', pid]);
  t.regex(svg, />r0 \(raw\)<.*>1 MiB, 0 % stored</);
  if (canRun(t, 'xmllint')) t.is((await attempt('xmllint', ['--noout', '-'], { input: svg })).code, 0);
});

test('graph of a file: what it describes, nothing opened', async (t) => {
  const folder = await tempDir(t);
  const config = {
    blockdev: [
      {
        driver: 'qcow2',
        'node-name': 'top',
        file: { driver: 'file', filename: '/nonexistent/<a>&b.qcow2' },
        backing: 'base',
      },
      { driver: 'raw', 'node-name': 'base', 'read-only': true, 'file.driver': 'null-co', 'file.size': '1G' },
    ],
    export: [{ id: 'e0', 'node-name': 'top', mountpoint: '/mnt', writable: true }],
  };
  const file = join(folder, 'config.json');
  await writeFile(file, JSON.stringify(config));
  const { stdout } = await blockfuse(['graph', file]);
  t.is(
    stdout,
    `export "e0": /mnt, writable
└─ root: top (qcow2)
   ├─ file (data + metadata + primary): #2 (file "/nonexistent/<a>&b.qcow2")
   └─ backing (cow): base (raw): read-only
      └─ file (data + primary): #4 (null-co)
`,
  );
  t.regex((await blockfuse(['graph', '--svg', file])).stdout, /&lt;a&gt;&amp;b\.qcow2/);
});

test('graph of nothing', async (t) => {
  const outcome = await attemptBlockfuse(['graph', '/nonexistent']);
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /neither a server of yours/);
});
