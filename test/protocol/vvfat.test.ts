/** A folder as a FAT disk, judged by fsck.fat and read back by mtools. */
import { mkdir, open, readdir, readFile, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { directoryNames, shortNameSum } from '../../drivers/protocol/vvfat/names.ts';
import { vvfatDriver } from '../../drivers/protocol/vvfat/driver.ts';
import type { Child } from '../../src/block/child.ts';
import { BlockError } from '../../src/block/errors.ts';
import { BlockStatus } from '../../src/block/extent.ts';
import { Permission } from '../../src/block/permissions.ts';
import { testGraph } from '../helpers/graph.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const LARGEST_READ = 1024 * 1024;

/** Folders, long and short names, names in other scripts, empty files, files of odd sizes, more than one cluster of names. */
async function fillFolder(folder: string): Promise<void> {
  const random = new Random(seed(12));
  await mkdir(join(folder, 'docs', 'deep', 'deeper still'), { recursive: true });
  await mkdir(join(folder, 'many'));
  await mkdir(join(folder, 'NOTHING'));
  const files: [string, number][] = [
    ['README.TXT', 100],
    ['readme.md', 513],
    ['a file with a long name, spaces and (brackets).tar.gz', 70_000],
    ['another file with a long name.tar.gz', 1],
    ['another file with a long name.tar.xz', 2],
    ['.hidden', 3],
    ['empty', 0],
    ['x'.repeat(200), 10],
    ['Grüße aus Köln – 日本語.txt', 4096],
    ['exactly13char', 13],
    ['docs/deep/deeper still/x.c', 8192],
    ['docs/deep/y.h', 8193],
  ];
  for (const [name, size] of files) await writeFile(join(folder, name), random.bytes(size));
  for (let index = 0; index < 300; index += 1)
    await writeFile(join(folder, 'many', `file number ${index}`), `${index}\n`);
  await symlink('../README.TXT', join(folder, 'docs', 'link'));
  await symlink('nowhere', join(folder, 'docs', 'dangling'));
  await utimes(join(folder, 'README.TXT'), new Date(2001, 1, 3, 4, 5, 6), new Date(2001, 1, 3, 4, 5, 6));
}

async function openFolder(
  t: ExecutionContext,
  name: string,
  options: Record<string, unknown> = {},
): Promise<Child> {
  const graph = testGraph(t, [vvfatDriver, rawDriver]);
  const node = await graph.openImage(name, 'raw', { 'read-only': true, ...options });
  return graph.attachRoot(node, { name: 'test', used: Permission.consistentRead });
}

/** The disk in a sparse file, by what its block status says is data. */
async function dump(door: Child, path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    const status = new BlockStatus();
    for (let at = 0; at < door.size; at += status.length) {
      await door.status(at, LARGEST_READ, status);
      const bytes = Buffer.alloc(status.length, 0xdb);
      if (!door.tryRead(bytes, 0, bytes.length, at)) await door.read(bytes, at);
      if (!status.zero) await file.write(bytes, 0, bytes.length, at);
      else if (!bytes.equals(Buffer.alloc(bytes.length))) throw new Error(`not zero at ${at}`);
    }
  } finally {
    await file.close();
  }
  await truncate(path, door.size);
}

async function contents(folder: string, below = ''): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of (await readdir(join(folder, below))).sort()) {
    const path = join(below, name);
    const stats = await stat(join(folder, path)).catch(() => undefined);
    if (stats === undefined) continue;
    if (!stats.isDirectory()) found.set(path, (await readFile(join(folder, path))).toString('hex'));
    else for (const [key, value] of await contents(folder, path)) found.set(key, value);
  }
  return found;
}

const UTF8 = { ...process.env, LC_ALL: 'C.UTF-8', MTOOLS_SKIP_CHECK: '0' };

interface Shape {
  readonly type: number;
  readonly size: number;
  readonly partition: number;
}

const shown = test.macro({
  async exec(t: ExecutionContext, prefix: string, shape: Shape, options: Record<string, unknown> = {}) {
    if (!canRun(t, 'fsck.fat', 'mcopy')) return;
    const dir = await tempDir(t);
    const folder = join(dir, 'source');
    await mkdir(folder);
    await fillFolder(folder);
    const door = await openFolder(t, `${prefix}${folder}`, options);
    t.is(door.size, shape.size);
    const whole = join(dir, 'disk.img');
    await dump(door, whole);
    const image = join(dir, 'volume.img');
    await writeFile(image, (await readFile(whole)).subarray(shape.partition));
    const { stdout } = await run('fsck.fat', ['-n', '-v', image]);
    t.regex(stdout, new RegExp(`2 FATs, ${shape.type} bit entries`));
    t.notRegex(stdout, /differ|wrong|dirty|orphan|bad|invalid|unused clusters\.\n\s*Reclaimed/i);
    const out = join(dir, 'out');
    await mkdir(out);
    await run('mcopy', ['-s', '-n', '-i', image, '::', out], { env: UTF8 });
    const [found, wanted] = [await contents(out), await contents(folder)];
    const paths = new Set([...found.keys(), ...wanted.keys()]);
    t.deepEqual(
      [...paths].filter((path) => found.get(path) !== wanted.get(path)),
      [],
    );
  },
  title: (name = '') => `shown by ${name}`,
});
const MB504 = 1024 * 16 * 63 * 512;
test('fat:', shown, 'fat:', { type: 16, size: MB504, partition: 63 * 512 });
test('fat:12:', shown, 'fat:12:', { type: 12, size: 64 * 16 * 63 * 512, partition: 63 * 512 });
test('fat:32:', shown, 'fat:32:', { type: 32, size: MB504, partition: 63 * 512 });
test('fat:floppy:', shown, 'fat:floppy:', { type: 12, size: 1_474_560, partition: 0 });
test('fat:16:floppy:', shown, 'fat:16:floppy:', { type: 16, size: 2_949_120, partition: 0 });

test('a disk grows with the folder, in size and clusters, and is FAT32 when FAT16 is too small', async (t) => {
  if (!canRun(t, 'fsck.fat', 'mdir')) return;
  const dir = await tempDir(t);
  const folder = join(dir, 'source');
  await mkdir(folder);
  await writeFile(join(folder, 'large'), '');
  const cases: [number, number][] = [
    [400, 16],
    [700, 16],
    [1900, 16],
    [3000, 32],
  ];
  for (const [megabytes, type] of cases) {
    await truncate(join(folder, 'large'), megabytes * 1024 * 1024);
    const door = await openFolder(t, `fat:${folder}`);
    t.true(door.size > megabytes * 1024 * 1024 && door.size < Math.max(600, megabytes * 1.2) * 1024 * 1024);
    const boot = Buffer.alloc(512);
    await door.read(boot, 63 * 512);
    t.is(
      boot.toString('latin1', type === 32 ? 82 : 54, type === 32 ? 87 : 59),
      `FAT${type}`,
      `${megabytes} MB`,
    );
    const table = Buffer.alloc(512);
    await door.read(table, 0);
    t.is(table.readUInt32LE(458) + 63, door.size / 512);
  }
  await writeFile(join(folder, 'small'), 'small');
  const path = join(dir, 'disk.img');
  await truncate(join(folder, 'large'), 700 * 1024 * 1024);
  const door = await openFolder(t, `fat:32:${folder}`);
  const file = await open(path, 'w');
  const head = Buffer.alloc(4 * 1024 * 1024);
  await door.read(head, 63 * 512);
  await file.write(head);
  await file.close();
  await truncate(path, door.size - 63 * 512);
  const { stdout } = await run('mdir', ['-i', path, '::'], { env: UTF8 });
  t.regex(stdout, /LARGE\s+734003200/);
});

test('label, dates and the legacy name of QEMU', async (t) => {
  if (!canRun(t, 'mdir')) return;
  const dir = await tempDir(t);
  const folder = join(dir, 'so:urce');
  await mkdir(folder);
  await fillFolder(folder);
  const graph = testGraph(t, [vvfatDriver]);
  const options = { driver: 'vvfat', dir: folder, floppy: true, label: 'my disk' };
  const node = await graph.open(options);
  const path = join(dir, 'floppy.img');
  await dump(graph.attachRoot(node, { name: 'x', used: Permission.consistentRead }), path);
  const { stdout } = await run('mdir', ['-i', path, '::README.TXT'], { env: UTF8 });
  t.regex(stdout, /Volume in drive : is MY DISK/);
  t.regex(stdout, /README\s+TXT\s+100\s+2001-02-03\s+4:05/);
  t.deepEqual(vvfatDriver.parseFilename?.('fat:12:floppy:/a:b'), {
    'fat-type': 12,
    floppy: true,
    dir: '/a:b',
  });
});

const refused: readonly [string, Record<string, unknown>, RegExp][] = [
  ['no such folder', { dir: '/nonexistent/folder' }, /Cannot read folder "\/nonexistent\/folder"/],
  ['rw', { rw: 'on' }, /rw is on, it can only be read/],
  ['fat-type', { 'fat-type': 13 }, /fat-type is 13, must be 12, 16 or 32/],
  ['label', { label: 'much too long' }, /label is "much too long", must be at most 11/],
  ['label with forbidden letters', { label: 'a/b' }, /label is "a\/b"/],
  ['FAT32 on a floppy', { 'fat-type': 32, floppy: true }, /a floppy with FAT32: there is none/],
  ['too much for a floppy', { floppy: true }, /as a floppy of 2.88 MB: its files have 4 MiB/],
  ['a link back', { dir: 'loop' }, /a link in it leads back to it/],
  [
    'a file that is too large',
    { dir: 'huge' },
    /"huge" has 4294967296 bytes, a file on FAT has at most 4294967295/,
  ],
];
for (const [name, options, message] of refused) {
  test(`refused: ${name}`, async (t) => {
    const dir = await tempDir(t);
    await mkdir(join(dir, 'loop'));
    await symlink('.', join(dir, 'loop', 'again'));
    await mkdir(join(dir, 'huge'));
    await writeFile(join(dir, 'huge', 'huge'), '');
    await truncate(join(dir, 'huge', 'huge'), 2 ** 32);
    await mkdir(join(dir, 'four'));
    await writeFile(join(dir, 'four', 'data'), Buffer.alloc(4 * 1024 * 1024));
    const given = {
      driver: 'vvfat',
      ...options,
      dir: join(dir, typeof options['dir'] === 'string' ? options['dir'] : 'four'),
    };
    if (options['dir'] === '/nonexistent/folder') given.dir = '/nonexistent/folder';
    await t.throwsAsync(testGraph(t, [vvfatDriver]).open(given), { instanceOf: BlockError, message });
  });
}

test('names: short ones kept, long ones numbered, forbidden letters replaced, all different whatever the case', (t) => {
  const names = directoryNames([
    'README.TXT',
    'Readme.txt',
    'a b.c',
    'a:b',
    'x.',
    'CON',
    '.bashrc',
    'ab',
    'AB',
    'long name 1.text',
    'long name 2.text',
    'README~1.TXT',
  ]);
  t.deepEqual(
    names.map(({ short, long }) => [short, long]),
    [
      ['README  TXT', undefined],
      ['README~2TXT', 'Readme (2).txt'],
      ['AB~1    C  ', 'a b.c'],
      ['A_B        ', 'a_b'],
      ['X_         ', 'x_'],
      ['CON        ', undefined],
      ['BASHRC~1   ', '.bashrc'],
      ['AB         ', 'ab'],
      ['AB(2)~1    ', 'AB (2)'],
      ['LONGNA~1TEX', 'long name 1.text'],
      ['LONGNA~2TEX', 'long name 2.text'],
      ['README~1TXT', undefined],
    ],
  );
  t.is(shortNameSum('README  TXT'), 0x73);
});

test('a file that is shorter or gone when it is read', async (t) => {
  const dir = await tempDir(t);
  await writeFile(join(dir, 'a'), Buffer.alloc(8192, 1));
  const door = await openFolder(t, `fat:floppy:${dir}`);
  await writeFile(join(dir, 'a'), Buffer.alloc(100, 1));
  const bytes = Buffer.alloc(door.size);
  await door.read(bytes, 0);
  t.is(bytes.filter((byte) => byte === 1).length >= 100, true);
  const { unlink } = await import('node:fs/promises');
  await unlink(join(dir, 'a'));
  const again = await openFolder(t, `fat:floppy:${dir}`);
  await again.read(bytes, 0);
  t.is(again.size, 1_474_560);
});
