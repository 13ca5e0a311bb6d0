/** `map --svg` and `map --html`. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Cells, COLUMNS, KINDS } from '../../src/cli/map/cells.ts';
import type { DiskPicture } from '../../src/cli/map/collect.ts';
import { renderMapHtml } from '../../src/cli/map/html.ts';
import { legendRows, renderMapSvg } from '../../src/cli/map/svg.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const TiB = 2 ** 40;

function picture(cells: Cells, given: Partial<DiskPicture> = {}): DiskPicture {
  const layers = [{ name: 'a.qcow2', driver: 'qcow2', size: cells.size, allocated: 1 }];
  const rest = { partitions: [], scheme: undefined, snapshots: [], moreSnapshots: 0 };
  return { title: 'a.qcow2', size: cells.size, allocated: 1, cells, layers, ...rest, ...given };
}

test('Cells: every byte is counted once, whatever the ranges', (t) => {
  const random = new Random(seed(3));
  for (let round = 0; round < 30; round += 1) {
    const size = random.between(1, 2 ** 30) * 512;
    const cells = new Cells(size);
    const wanted = KINDS.map(() => 0);
    for (let start = 0; start < size;) {
      const length = Math.min(size - start, random.between(1, 2 ** 20) * 512);
      const depth = random.below(9);
      const [present, zero, compressed] = [random.below(4) > 0, random.below(3) === 0, random.below(3) === 0];
      cells.add({ start, length, depth, present, zero, compressed });
      const state = zero ? 'zero' : compressed ? 'compressed' : 'data';
      const kind = present
        ? KINDS.findIndex((each) => each.state === state && each.layer === Math.min(depth, 5))
        : KINDS.length - 1;
      wanted[kind] = (wanted[kind] ?? 0) + length;
      start += length;
    }
    t.deepEqual(cells.totals(), wanted);
    const inCells = Array.from({ length: cells.count }, (_, cell) => cells.shares(cell));
    t.is(
      inCells.flat().reduce((sum, { bytes }) => sum + bytes, 0),
      size,
    );
    t.true(cells.rows <= 48 && cells.count <= cells.rows * COLUMNS);
  }
});

test('a picture is bounded: 16 TiB in a million ranges', async (t) => {
  const cells = new Cells(16 * TiB);
  const length = 2 ** 24;
  for (let index = 0; index < 2 ** 20; index += 1) {
    const kind = { present: index % 5 > 0, zero: index % 3 === 0, compressed: index % 2 === 0 };
    cells.add({ start: index * length, length, depth: index % 7, ...kind });
  }
  const svg = renderMapSvg(picture(cells));
  t.true(svg.length < 6_000_000, String(svg.length));
  if (!canRun(t, 'rsvg-convert')) return;
  const { stdout } = await run('rsvg-convert', ['-f', 'svg'], { input: svg });
  t.true(stdout.length > 1000);
});

test('names can not leave their text', async (t) => {
  const cells = new Cells(1 << 20);
  cells.add({ start: 0, length: 1 << 20, depth: 0, present: true, zero: false, compressed: false });
  const name = '</title><script>alert(1)</script>"\u0000\u001b[2J\u202e\'&\ud800';
  const range = { offset: 0, length: 1 << 19, type: name, typeName: name, uuid: '', extended: false };
  const page = renderMapHtml(
    picture(cells, {
      title: name,
      layers: [
        { name, driver: name, size: 1, allocated: undefined },
        { name, driver: name, size: 1, allocated: 1 },
      ],
      scheme: 'gpt',
      partitions: [{ number: 1, name, ...range }],
      snapshots: [{ id: name, name, date: new Date(Number.NaN), diskSize: 1, allocated: 0 }],
      moreSnapshots: 3,
    }),
  );
  for (const text of ['<script', '\u0000', '\u001b', '\u202e']) t.false(page.includes(text));
  t.notRegex(page.replace('http://www.w3.org/2000/svg', ''), /https?:|src=|@import/);
  if (!canRun(t, 'xmllint')) return;
  const svg = page.slice(page.indexOf('<svg'), page.indexOf('</svg>') + '</svg>'.length);
  await run('xmllint', ['--noout', '-'], { input: svg });
});

test('map --svg and --html of a chain with partitions and snapshots', async (t) => {
  if (!canRun(t, 'qemu-img', 'qemu-io', 'sfdisk', 'rsvg-convert', 'xmllint')) return;
  const folder = await tempDir(t);
  const [raw, base, top] = ['r.raw', 'base.qcow2', 'top.qcow2'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await run('qemu-img', ['create', '-q', '-f', 'raw', raw, '64M']);
  await run('sfdisk', ['-q', raw], { input: 'label: gpt\nsize=16M,name="first <&>"\nsize=8M\n' });
  await run('qemu-img', ['convert', '-c', '-O', 'qcow2', raw, base]);
  await run('qemu-io', ['-c', 'write -P 1 20M 4M', '-c', 'write -z 40M 2M', base]);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
  await run('qemu-io', ['-c', 'write -P 2 22M 1M', top]);
  await run('qemu-img', ['snapshot', '-c', 'before "it"', top]);
  const svgFile = join(folder, 'map.svg');
  await blockfuse(['map', '--svg', '-o', svgFile, top]);
  await run('xmllint', ['--noout', svgFile]);
  await run('rsvg-convert', ['-o', join(folder, 'map.png'), svgFile]);
  t.true((await stat(join(folder, 'map.png'))).size > 5000);
  const svg = await readFile(svgFile, 'utf8');
  for (const words of [
    'data, layer 0: top.qcow2 (qcow2)',
    'data, layer 1: base.qcow2 (qcow2)',
    'zeroes, layer 1: base.qcow2 (qcow2)',
    'compressed data, layer 1: base.qcow2 (qcow2)',
    'partition 1 first &lt;&amp;&gt; · 16 MiB',
    'before &quot;it&quot;',
  ])
    t.true(svg.includes(words), words);
  const { stdout: html } = await blockfuse(['map', '--html', top]);
  t.true(html.startsWith('<!DOCTYPE html>'));
  t.regex(html, /<td>data, layer 0: top\.qcow2 \(qcow2\)<\/td><td class="n">1048576<\/td>/);
  t.regex(html, /<td>data, layer 1: base\.qcow2 \(qcow2\)<\/td><td class="n">3145728<\/td>/);
  t.regex(html, /<td>zeroes, layer 1: base\.qcow2 \(qcow2\)<\/td><td class="n">2097152<\/td>/);
  t.true(html.includes('<title>'), 'hover titles');
});

test('map: the picture does not replace the image; wrong uses', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const folder = await tempDir(t);
  const image = join(folder, 'a.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
  const refused = await attemptBlockfuse(['map', '--svg', '-o', 'a.qcow2', image], { cwd: folder });
  t.is(refused.code, 1);
  t.regex(refused.stderr, /Cannot write "a\.qcow2": it is part of the image/);
  await run('qemu-img', ['check', '-q', image]);
  t.is((await attemptBlockfuse(['map', '--svg', '--html', image])).code, 2);
  t.is((await attemptBlockfuse(['map', '-o', 'x', image])).code, 2);
  const nowhere = join(folder, 'no', 'x.svg');
  t.regex((await attemptBlockfuse(['map', '--svg', '-o', nowhere, image])).stderr, /Cannot write ".*x\.svg"/);
});

test('a disk of no size has a picture', (t) => {
  const cells = new Cells(0);
  t.regex(renderMapSvg(picture(cells)), /^<svg [^]*<\/svg>\n$/);
  t.deepEqual(legendRows(picture(cells)), []);
});
