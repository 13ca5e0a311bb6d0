/** Files that an image names: where they are looked for, what is said when they are not there, how another is given. */
import { copyFile, mkdir, readFile, rename, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { BlockError } from '../../src/block/errors.ts';
import type { GatePolicy } from '../../src/block/gate.ts';
import type { Graph } from '../../src/block/graph.ts';
import { makeGraph } from '../../src/cli/open-graph.ts';
import { loopDevice } from '../helpers/loop-device.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { difference } from '../helpers/model-disk.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import { hold, holdImage, MIB, mixedDisk, rawFile, readAll, release } from './small-image.ts';
import { descriptor, forWriting, writeDescriptor } from './vmdk-fixtures.ts';

const SIZE = 2 * MIB;
const NAME = 'my disk ü ß';

/** A graph as the commands make it: links in paths are followed before the gate decides, devices are known. */
function guarded(t: ExecutionContext, policy: Pick<GatePolicy, 'follow'> = { follow: 'rooted' }): Graph {
  const graph = makeGraph(policy, () => {});
  t.teardown(() => graph.close());
  return graph;
}

/** A flat disk in a folder of its own, its extent beside the descriptor. */
async function flatDisk(t: ExecutionContext): Promise<{ cwd: string; disk: Buffer; folder: string }> {
  const cwd = await tempDir(t);
  const folder = join(cwd, 'a folder with ünicode');
  await mkdir(folder);
  const disk = mixedDisk(31, SIZE);
  await rawFile(folder, `${NAME}-flat.vmdk`, disk);
  const line = `RW ${SIZE / 512} FLAT "${NAME}-flat.vmdk" 0`;
  await writeDescriptor(folder, `${NAME}.vmdk`, descriptor('monolithicFlat', [line]));
  await rawFile(cwd, 'wanted.raw', disk);
  return { cwd, disk, folder };
}

test('extents are found from anywhere: by a relative name, in another folder, through links', async (t) => {
  const { cwd, folder } = await flatDisk(t);
  const inFolder = join('a folder with ünicode', `${NAME}.vmdk`);
  await symlink(inFolder, join(cwd, 'link.vmdk'));
  await symlink(folder, join(cwd, 'linked folder'));
  for (const image of [inFolder, 'link.vmdk', join('linked folder', `${NAME}.vmdk`)])
    await blockfuse(['compare', '-f', 'raw', '-F', 'vmdk', 'wanted.raw', image], { cwd });
  // Beside the link comes first, as QEMU has it.
  await rawFile(cwd, `${NAME}-flat.vmdk`, Buffer.alloc(SIZE, 7));
  const child = await holdImage(guarded(t), join(cwd, 'link.vmdk'));
  t.is(difference(await readAll(child), Buffer.alloc(SIZE, 7)), undefined);
});

test('an extent that is gone: the error names it, each place, and the option, and the option works', async (t) => {
  const { cwd, folder } = await flatDisk(t);
  await symlink(join('a folder with ünicode', `${NAME}.vmdk`), join(cwd, 'link.vmdk'));
  await rename(join(folder, `${NAME}-flat.vmdk`), join(cwd, 'moved ü.bin'));
  const { code, stderr } = await attemptBlockfuse(['info', 'link.vmdk'], { cwd });
  t.is(code, 1);
  const places = [`"${cwd}/${NAME}-flat.vmdk"`, `"${folder}/${NAME}-flat.vmdk"`].join(', ');
  t.true(stderr.includes(`Cannot open extents.0 "${NAME}-flat.vmdk"`), stderr);
  t.true(stderr.includes(`looked for ${places}, another file can be given with extents.0.filename`), stderr);
  const mountpoint = join(cwd, 'mnt');
  await mkdir(mountpoint);
  const option = ['-O', 'extents.0.filename=moved ü.bin'];
  await blockfuse(['mount', ...option, '--node-name', 'disk', 'link.vmdk', 'mnt'], { cwd });
  t.teardown(() => attemptBlockfuse(['unmount', mountpoint]));
  const cmp = await run('cmp', [join(mountpoint, 'disk.raw'), join(cwd, 'wanted.raw')]);
  t.is(cmp.code, 0);
  await blockfuse(['unmount', mountpoint]);
  const image = `driver=vmdk,file.filename=link.vmdk,extents.0.filename=moved ü.bin`;
  const info = JSON.parse((await blockfuse(['info', '--json', '--image-opts', image], { cwd })).stdout);
  t.is(info['virtual-size'], SIZE);
});

test('names in the manner of Windows mean the file beside the image', async (t) => {
  const folder = await tempDir(t);
  const disk = mixedDisk(32, SIZE);
  await mkdir(join(folder, 'sub'));
  await rawFile(folder, 'beside.bin', disk);
  await rawFile(join(folder, 'sub'), 'below.bin', disk);
  const graph = guarded(t);
  const open = async (name: string): Promise<Buffer> => {
    const line = `RW ${SIZE / 512} FLAT "${name}" 0`;
    const path = await writeDescriptor(folder, 'disk.vmdk', descriptor('custom', [line]));
    const child = await hold(graph, forWriting(path));
    const content = await readAll(child);
    await release(graph, child);
    return content;
  };
  for (const name of [
    'C:\\Virtual Machines\\vm\\beside.bin',
    '\\\\server\\share\\beside.bin',
    'sub\\below.bin',
  ])
    t.is(difference(await open(name), disk), undefined, name);
  await t.throwsAsync(open('..\\beside.bin'), { code: 'EPERM', message: /lies outside/ });
  const gone = await t.throwsAsync(open('D:\\gone.bin'));
  t.true(gone.message.includes(`looked for "${folder}/D:\\gone.bin", "${folder}/gone.bin"`), gone.message);
});

const HOSTILE: readonly [name: string, why: RegExp][] = [
  ['nbd://localhost:10809/x', /protocol nbd, must be one of a file/],
  ['nbd+unix:///x?socket=/tmp/s', /protocol nbd, must be one of a file/],
  ['http://localhost:1/x', /protocol http, must be one of a file/],
  ['json:{}', /protocol json, must be one of a file/],
  ['fat:/etc', /protocol vvfat, must be one of a file/],
  ['/dev/sda', /device or system file/],
  ['/dev/fd/0', /device or system file/],
  ['/proc/self/mem', /device or system file/],
];

test('names of protocols, devices and system files are refused, with the options that allow them', async (t) => {
  const folder = await tempDir(t);
  await rawFile(folder, 'a.bin', Buffer.alloc(SIZE));
  const line = 'RW 8 FLAT "a.bin" 0';
  for (const [name, why] of HOSTILE) {
    const parent = ['parentCID=12345678', `parentFileNameHint="${name}"`];
    const text = descriptor('custom', [line], parent);
    for (const [option, image] of [
      ['extents.1.filename', descriptor('custom', [line, `RW 8 FLAT "${name}" 0`])],
      ['backing.file.filename', text],
    ] as const) {
      const path = await writeDescriptor(folder, 'disk.vmdk', image);
      const error = await t.throwsAsync(holdImage(guarded(t), path), { instanceOf: BlockError });
      t.is(error.code, 'EPERM', name);
      t.regex(error.message, why);
      t.true(error.message.includes(`allow it with --follow anywhere, or give the option ${option}`), name);
    }
  }
});

test('qcow2: a backing file that is a name of a protocol or a device is refused the same way', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const path = join(await tempDir(t), 'disk.qcow2');
  for (const [name, why] of HOSTILE) {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', name, '-F', 'raw', path, '1M']);
    const error = await t.throwsAsync(holdImage(guarded(t), path), { instanceOf: BlockError });
    t.regex(error.message, why);
    t.regex(error.message, /--follow anywhere, or give the option backing.file.filename/);
  }
});

test('info tells of an image whose parent is gone, with a warning that names it; its chain is an error', async (t) => {
  if (!canRun(t, 'qemu-img')) return;
  const cwd = await tempDir(t);
  for (const format of ['vmdk', 'qcow2']) {
    const parent = `parent.${format}`;
    await run('qemu-img', ['create', '-q', '-f', format, parent, '2M'], { cwd });
    await run('qemu-img', ['create', '-q', '-f', format, '-b', parent, '-F', format, 'top', '2M'], { cwd });
    await unlink(join(cwd, parent));
    const { stdout, stderr } = await blockfuse(['info', '--json', 'top'], { cwd });
    const info = JSON.parse(stdout);
    t.is(info['virtual-size'], 2 * MIB);
    t.is(info['backing-filename'], parent);
    t.true(stderr.includes(`warning: Cannot open backing "${parent}"`), stderr);
    t.true(stderr.includes(`looked for "${cwd}/${parent}"`), stderr);
    t.is((await attemptBlockfuse(['info', '--backing-chain', 'top'], { cwd })).code, 1);
    t.is((await attemptBlockfuse(['compare', 'top', 'top'], { cwd })).code, 2);
  }
});

test('what an image says is followed anywhere when that was asked for', async (t) => {
  if (!isRoot(t) || !canRun(t, 'qemu-img', 'losetup')) return;
  const folder = await tempDir(t);
  const disk = mixedDisk(33, SIZE);
  const device = await loopDevice(t, await rawFile(folder, 'device.img', disk));
  const flat = `RW 2048 FLAT "${device.path}" 16`;
  const path = await writeDescriptor(folder, 'dev.vmdk', descriptor('fullDevice', [flat, 'RW 8 ZERO']));
  const graph = guarded(t, { follow: 'anywhere' });
  const child = await hold(graph, forWriting(path));
  const wanted = Buffer.concat([disk.subarray(8192, 8192 + MIB), Buffer.alloc(4096)]);
  t.is(difference(await readAll(child), wanted), undefined);
  await child.write(Buffer.alloc(4096, 0x5a), 4096);
  await release(graph, child);
  await device.detach();
  t.deepEqual(
    (await readFile(join(folder, 'device.img'))).subarray(12_288, 16_384),
    Buffer.alloc(4096, 0x5a),
  );

  const base = `json:{"driver":"raw","file":{"driver":"file","filename":"${folder}/device.img"}}`;
  const top = join(folder, 'top.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', base, '-F', 'raw', top, String(SIZE)]);
  const over = await holdImage(graph, top);
  t.is(difference(await readAll(over), await readFile(join(folder, 'device.img'))), undefined);
});

test('split: a part that is gone in the middle is named with where it was looked for', async (t) => {
  const folder = await tempDir(t);
  const part = await rawFile(folder, 'd.001', Buffer.alloc(MIB, 1));
  for (const name of ['d.002', 'd.004']) await copyFile(part, join(folder, name));
  const error = await t.throwsAsync(holdImage(guarded(t), part));
  t.true(error.message.includes(`"${folder}/d.003" is missing, but d.004 is there`), error.message);
  t.true(error.message.includes('extents.2.filename'), error.message);
  const other = await rawFile(folder, 'other.bin', Buffer.alloc(MIB, 3));
  const image = JSON.stringify({ driver: 'split', file: { filename: part }, 'extents.2.filename': other });
  const info = JSON.parse((await blockfuse(['info', '--json', `json:${image}`])).stdout);
  t.is(info['virtual-size'], 4 * MIB);
});
