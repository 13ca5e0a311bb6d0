/** Where differencing images look for their parents: odd names, links, folders, and what is said when there is none. */
import { mkdir, readdir, rename, symlink, utimes } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { vpcDriver } from '../../drivers/format/vpc/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import { Gate } from '../../src/block/gate.ts';
import { Graph } from '../../src/block/graph.ts';
import { createImage as create } from '../../src/cli/create-image.ts';
import { siblings } from '../../src/sys/folders.ts';
import { realPath } from '../../src/sys/paths.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { createImage, hold, holdImage, MIB, release } from './small-image.ts';

const SIZE = 2 * MIB;

interface Kind {
  readonly format: string;
  readonly ending: string;
  /** Does the image hold a name of its parent? */
  readonly named: boolean;
}

const KINDS: readonly Kind[] = [
  { format: 'vdi', ending: '.vdi', named: false },
  { format: 'vpc', ending: '.vhd', named: true },
  { format: 'vhdx', ending: '.vhdx', named: true },
];

interface Looks {
  readonly graph: Graph;
  readonly warnings: string[];
  /** Folders that were read to find a parent by its UUID. */
  readonly folders: string[];
}

function looking(t: ExecutionContext): Looks {
  const warnings: string[] = [];
  const folders: string[] = [];
  const graph = new Graph({
    drivers: DRIVERS,
    gate: new Gate({ realPath }),
    warn: (message) => warnings.push(message),
    siblings: (filename) => {
      folders.push(dirname(filename));
      return siblings(filename);
    },
  });
  t.teardown(() => graph.close());
  return { graph, warnings, folders };
}

async function makeBase(graph: Graph, format: string, filename: string): Promise<void> {
  await mkdir(dirname(filename), { recursive: true });
  await create(graph, { filename, format, size: SIZE, options: {} });
  const child = await hold(graph, { driver: format, file: { driver: 'file', filename } });
  await child.write(Buffer.alloc(4096, 0x42), 8192);
  await release(graph, child);
}

const makeTop = (graph: Graph, format: string, filename: string, parent: string): Promise<void> =>
  create(graph, { filename, format, size: SIZE, options: { backing_file: parent, backing_fmt: format } });

async function seesItsParent(t: ExecutionContext, { graph }: Looks, top: string): Promise<string> {
  const child = await holdImage(graph, top);
  const bytes = Buffer.alloc(4096);
  await child.read(bytes, 8192);
  t.true(bytes.equals(Buffer.alloc(4096, 0x42)));
  const found = child.node.cow?.node.filename ?? '';
  await release(graph, child);
  return found;
}

test('an overlay is created by the same words for every format that has them', async (t) => {
  const looks = looking(t);
  const folder = await tempDir(t);
  for (const format of ['qcow2', 'qcow', 'qed', 'vdi', 'vpc', 'vhdx', 'vmdk']) {
    const base = join(folder, `base.${format}`);
    const top = join(folder, `top.${format}`);
    await makeBase(looks.graph, format, base);
    await blockfuse(['create', '-f', format, '-b', `base.${format}`, '-F', format, top]);
    t.is(await seesItsParent(t, looks, top), base);
  }
});

for (const { format } of KINDS) {
  for (const other of [...KINDS.map((kind) => kind.format), 'raw'].filter((name) => name !== format)) {
    test(`${format}: a parent of format ${other} is refused, as it could not be opened later`, async (t) => {
      const { graph } = looking(t);
      const folder = await tempDir(t);
      await makeBase(graph, other, join(folder, 'base'));
      for (const [named, reason] of [
        [['-F', other], 'must be one of'],
        [[], 'must be one of'],
        [['-F', format], join(folder, 'base')],
      ] as const) {
        const words = ['create', '-f', format, '-b', 'base', ...named, join(folder, 'top')];
        const { code, stderr } = await attemptBlockfuse(words);
        t.is(code, 1, stderr);
        t.true(stderr.includes(reason), stderr);
        t.deepEqual(await readdir(folder), ['base']);
      }
    });
  }
}

for (const kind of KINDS) {
  const { format, ending, named } = kind;
  for (const name of ['a parent', 'Ünïcode 語 \u{1F4BE}', 'back\\slash', "quote'd %41"]) {
    test(`${format}: a parent called ${name} is found, from another folder and by a relative path`, async (t) => {
      const looks = looking(t);
      const folder = await tempDir(t);
      const base = join(folder, named ? 'the base' : 'tops', `${name}${ending}`);
      const top = join(folder, 'tops', `top${ending}`);
      await mkdir(dirname(top));
      const inPlace = name.includes('\\') ? join(dirname(top), basename(base)) : base;
      await makeBase(looks.graph, format, inPlace);
      await makeTop(looks.graph, format, top, relative(dirname(top), inPlace));
      t.is(await seesItsParent(t, looks, top), inPlace);
      t.is(await seesItsParent(t, looks, relative(process.cwd(), top)), inPlace);
      const link = join(folder, `link${ending}`);
      await symlink(top, link);
      t.is(await seesItsParent(t, looks, link), inPlace);
      t.deepEqual(looks.warnings, []);
    });
  }

  test(`${format}: a parent that was moved is named, with where it was looked for, and can be given`, async (t) => {
    const looks = looking(t);
    const folder = await tempDir(t);
    const base = join(folder, `base${ending}`);
    const top = join(folder, `top${ending}`);
    await makeBase(looks.graph, format, base);
    await makeTop(looks.graph, format, top, basename(base));
    const away = join(folder, 'away', `other name${ending}`);
    await mkdir(dirname(away));
    await rename(base, away);
    const error = await t.throwsAsync(holdImage(looks.graph, top), { instanceOf: BlockError });
    t.is(error.code, 'ENOENT');
    const wanted = named ? base : join(folder, '{');
    t.true(error.message.includes(`no such file or directory; looked for "${wanted}`), error.message);
    t.regex(error.message, /another file can be given with backing\.file\.filename$/);
    const tree = { driver: format, 'read-only': true, file: { driver: 'file', filename: top } };
    for (const backing of [{ filename: away }, { file: { filename: away } }]) {
      const child = await hold(looks.graph, { ...tree, backing });
      t.is(child.node.cow?.node.filename, away);
      await release(looks.graph, child);
    }
    t.deepEqual(looks.warnings, []);
    await rename(away, join(folder, `renamed${ending}`));
    t.is(await seesItsParent(t, looks, top), join(folder, `renamed${ending}`));
  });

  test(`${format}: a folder of images whose base is gone is looked through once`, async (t) => {
    const looks = looking(t);
    const folder = await tempDir(t);
    const base = join(folder, `base${ending}`);
    await makeBase(looks.graph, format, base);
    const tops = Array.from({ length: 14 }, (_, index) => join(folder, `top${index}${ending}`));
    for (const top of tops) await makeTop(looks.graph, format, top, basename(base));
    await rename(base, join(folder, 'base.gone'));
    const error = await t.throwsAsync(holdImage(looks.graph, tops[0] ?? ''), { code: 'ENOENT' });
    t.regex(error.message, /and \d more files beside it/);
    t.deepEqual(looks.folders, [folder]);
    t.is(looks.graph.nodes.size, 0);
  });
}

test('vdi: snapshots of VirtualBox find the disk in the folder above', async (t) => {
  const looks = looking(t);
  const folder = await tempDir(t);
  const base = join(folder, 'disk.vdi');
  const middle = join(folder, 'Snapshots', '{first}.vdi');
  const top = join(folder, 'Snapshots', '{second}.vdi');
  await makeBase(looks.graph, 'vdi', base);
  await mkdir(dirname(top));
  await makeTop(looks.graph, 'vdi', middle, base);
  await makeTop(looks.graph, 'vdi', top, middle);
  t.is(await seesItsParent(t, looks, top), middle);
  t.is(await seesItsParent(t, looks, middle), base);
  t.deepEqual(looks.warnings, []);
});

test('vpc: a parent whose file was changed after the overlay was made is warned of', async (t) => {
  const { graph, warnings } = looking(t);
  const folder = await tempDir(t);
  const base = join(folder, 'base.vhd');
  const top = join(folder, 'top.vhd');
  await makeBase(graph, 'vpc', base);
  await makeTop(graph, 'vpc', top, 'base.vhd');
  await utimes(base, 1e9, 2e9);
  await release(graph, await holdImage(graph, top));
  t.is(warnings.length, 1);
  t.regex(
    warnings[0] ?? '',
    /base\.vhd" was changed, or copied, after .* is of 2033-05-18T03:33:20.000Z, the image knows it as of 20/,
  );
});

for (const name of [
  '\\\\server\\share\\base.vhd',
  '\\\\.\\PhysicalDrive0',
  '\\\\?\\C:\\vm\\base.vhd',
  'D:\\base.vhd',
]) {
  test(`vpc: ${name} is nothing that this system has`, async (t) => {
    const { graph } = looking(t);
    const folder = await tempDir(t);
    const top = join(folder, 'top.vhd');
    const options = { backing_file: name, 'parent-uuid': '12345678-1234-1234-1234-123456789abc' };
    await createImage(graph, vpcDriver, top, { size: SIZE, options });
    const error = await t.throwsAsync(holdImage(graph, top), { code: 'ENOENT' });
    const bare = name.slice(name.lastIndexOf('\\') + 1);
    t.true(error.message.includes(`looked for "${join(folder, bare)}", another`), error.message);
  });
}

test('vpc: a device that an image names as its parent is refused', async (t) => {
  const { graph } = looking(t);
  const folder = await tempDir(t);
  const top = join(folder, 'top.vhd');
  const options = { backing_file: '/dev/null', 'parent-uuid': '12345678-1234-1234-1234-123456789abc' };
  await createImage(graph, vpcDriver, top, { size: SIZE, options });
  const error = await t.throwsAsync(holdImage(graph, top), { instanceOf: BlockError });
  t.regex(error.message, /"\/dev\/null" named by image .*: it is a device or system file/);
});
