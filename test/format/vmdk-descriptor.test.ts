/** Descriptors that are changed: within a sector, so that a power cut leaves the old one or the new one. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { parseDescriptor } from '../../drivers/format/vmdk/descriptor.ts';
import type { Descriptor } from '../../drivers/format/vmdk/descriptor.ts';
import { replaceDigits } from '../../drivers/format/vmdk/descriptor-edit.ts';
import { vmdkDriver } from '../../drivers/format/vmdk/driver.ts';
import { Graph } from '../../src/block/graph.ts';
import { Random, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import { DRIVERS } from '../../drivers/index.ts';
import { recordedDriver, Recorder, ResizableDisk } from './recorded-disk.ts';
import { graphWith, hold, MIB, rawFile, release } from './small-image.ts';
import { descriptor, forWriting, libvmdkAgrees, qemuAgrees, writeDescriptor } from './vmdk-fixtures.ts';
import { hosted } from './vmdk-hosted.ts';

const GEOMETRY = [
  'ddb.geometry.cylinders = "9"',
  'ddb.geometry.heads = "16"',
  'ddb.geometry.sectors = "63"',
  'ddb.uuid = "60 00 C2 9e 3f 1b 1c 2c-4b 9d 2e 4f 5a 6b 7c 8d"',
];

/** A descriptor whose last extent, of `sectors`, stands in a sector of its own, behind more than one other. */
function longText(sectors: number, line: string): string {
  const zeroes = Array.from({ length: 110 }, () => 'RW 8 ZERO');
  return `${descriptor('custom', [...zeroes, `RW ${sectors} ${line}`])}${GEOMETRY.join('\n')}\n`;
}

const without = ({ cid: _cid, entries, ...rest }: Descriptor): unknown => ({
  ...rest,
  entries: [...entries].filter(([key]) => !/^cid$|longcontentid/.test(key)),
});

for (const [title, from, to, room] of [
  ['a file, longer by a digit', 9000, 12_000, 0],
  ['a file, longer by two', 900, 12_000, 0],
  ['a file, shorter', 12_000, 900, 0],
  ['inside a padded place', 9000, 1_200_000, 8],
] as const) {
  test(`vmdk: a descriptor of several sectors survives power cuts while the disk is resized: ${title}`, async (t) => {
    const folder = await tempDir(t);
    const flat = await rawFile(folder, 'flat.bin', Buffer.alloc(from * 512));
    const text = Buffer.from(longText(from, 'FLAT "flat.bin" 0'));
    t.true(text.length > 1024);
    const place = Buffer.concat([text, Buffer.alloc(Math.max(0, room * 512 - text.length))]);
    const random = new Random(seed(61));
    const recorder = new Recorder();
    const file = new ResizableDisk(recorder, place, random);
    const graph = new Graph({ drivers: [...DRIVERS, recordedDriver({ file })] });
    t.teardown(() => graph.close());
    const disk = await hold(graph, {
      driver: 'vmdk',
      file: { driver: 'recorded-image', 'node-name': 'file' },
      'extents.110': { driver: 'file', filename: flat },
    });
    const size = disk.size + (to - from) * 512;
    await disk.resize(size, true);
    await graph.close();
    const old = without(parseDescriptor(text, 'old'));
    const last = recorder.events.length;
    const now = without(parseDescriptor(recorder.afterCut(0, last, random), 'new'));
    t.notDeepEqual(now, old);
    t.is(parseDescriptor(recorder.afterCut(0, last, random), 'new').extents.at(-1)?.sectors, to);
    for (let round = 0; round < 200; round += 1) {
      const cut = parseDescriptor(recorder.afterCut(0, random.between(0, last), random), 'cut');
      // The geometry is a change of its own, and only tells old guests something.
      const known = [old, now].map((state) => geometryAside(state));
      t.true(known.includes(geometryAside(without(cut))), JSON.stringify(cut.extents.at(-1)));
    }
  });
}

const geometryAside = (state: unknown): string =>
  JSON.stringify(state).replace(/("ddb\.geometry\.cylinders",")\d+/, '$1');

test('vmdk: a disk with a long descriptor inside it is resized, as qemu-img and libvmdk see it', async (t) => {
  if (!canRun(t, 'qemu-img', 'vmdkmount', 'fusermount3')) return;
  const folder = await tempDir(t);
  const size = 4 * MIB;
  const disk = Buffer.alloc(size);
  disk.fill(7, MIB, MIB + 5000);
  const line = `RW ${size / 512} SPARSE "disk.vmdk"`;
  const filler = Array.from({ length: 20 }, (_, index) => `ddb.filler${index} = "${'x'.repeat(60)}"`);
  const text = `${descriptor('monolithicSparse', [line], filler)}${GEOMETRY.join('\n')}\n`;
  const shape = { grainSectors: 128, tableEntries: 512, redundant: true, descriptor: text };
  const path = await rawFile(folder, 'disk.vmdk', hosted(disk, shape));
  const graph = graphWith(t, vmdkDriver);
  const child = await hold(graph, forWriting(path));
  await child.resize(120 * MIB);
  await release(graph, child);
  const wanted = Buffer.concat([disk, Buffer.alloc(116 * MIB)]);
  await qemuAgrees(path, wanted);
  await libvmdkAgrees(path, wanted);
  const now = parseDescriptor((await readFile(path)).subarray(512, 21 * 512), 'now');
  t.is(now.extents[0]?.sectors, (120 * MIB) / 512);
  t.is(now.entries.get('ddb.geometry.cylinders'), String(Math.floor((120 * MIB) / 512 / 16 / 63)));
  t.is(now.entries.get('ddb.filler19'), 'x'.repeat(60));
});

test('vmdk: numbers are replaced within their sector, or not at all', (t) => {
  const place = (text: string, old: string): { at: number; length: number } => ({
    at: text.indexOf(old),
    length: old.length,
  });
  const edited = (text: string, old: string, digits: string): string | undefined => {
    const bytes = Buffer.from(text, 'latin1');
    const edit = replaceDigits(bytes, place(text, old), digits);
    edit?.bytes.copy(bytes, edit.at);
    return edit && bytes.toString('latin1');
  };
  t.is(edited('RW 8 ZERO\n\n', '8', '16'), 'RW 16 ZERO\n');
  t.is(edited('RW 8 ZERO\n\0\0\0', '8', '1024'), 'RW 1024 ZERO\n');
  t.is(edited('a=1\nb = 2\nRW 8 ZERO\n', '8', '1024'), undefined);
  t.is(edited('a=1\nb = 2\nRW 8 ZERO\n', '8', '102'), 'a=1\nb=2\nRW 102 ZERO\n');
  t.is(edited('RW 8 FLAT "a = b" 0\n', '8', '16'), undefined, 'blanks of a name stay');
  t.is(edited('RW 1024 ZERO\nx', '1024', '8'), 'RW    8 ZERO\nx');
  t.is(edited('RW 1024 ZERO\n', '1024', '8'), 'RW 8 ZERO\n\n\n\n');
  t.is(
    edited(`${'#'.repeat(508)}\nRW 8192 ZERO\n\n`, '8192', '1'),
    `${'#'.repeat(508)}\nRW 1 ZERO\n\n\n\n\n`,
  );
  t.is(edited(`${'#'.repeat(507)}\nRW 8192 ZERO\n\n`, '8192', '9999'), undefined, 'in two sectors');
});

async function refusal(t: ExecutionContext, text: string, folder: string): Promise<string> {
  const path = await writeDescriptor(folder, 'tight.vmdk', text);
  const graph = graphWith(t, vmdkDriver);
  const child = await hold(graph, forWriting(path));
  const error = await t.throwsAsync(child.resize(16 * MIB));
  await release(graph, child);
  return error.message;
}

test('vmdk: a descriptor without room for a longer number is refused, and left as it is', async (t) => {
  const folder = await tempDir(t);
  await writeFile(join(folder, 'a.bin'), Buffer.alloc(4096));
  const head = '# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID=ffffffff\ncreateType="custom"\n';
  const fill = `${'#'.repeat(512 - head.length - 1)}\n`;
  const line = 'RW 8 FLAT "a.bin" 0\n';
  const text = `${head}${fill}${line}${'#'.repeat(511 - line.length)}\n`;
  t.regex(await refusal(t, text, folder), /has no room for 32768 within its sector.*convert the disk/);
  const now = await readFile(join(folder, 'tight.vmdk'), 'latin1');
  t.is(now.replace(/CID=[0-9a-f]{8}/, 'CID=1234abcd'), text);
  t.is((await readFile(join(folder, 'a.bin'))).length, 4096);
});
