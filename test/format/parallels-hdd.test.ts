import { mkdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { parallelsDriver } from '../../drivers/format/parallels/driver.ts';
import { parallelsFolderDriver } from '../../drivers/format/parallels/folder-driver.ts';
import type { Graph } from '../../src/block/graph.ts';
import { exercise, verify } from '../helpers/exercise.ts';
import { childDisk } from '../helpers/graph.ts';
import { difference, ModelDisk } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  createImage,
  graphWith,
  hold,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  release,
  survivesMutations,
} from './small-image.ts';

const TOP = '{5fbaabe3-6958-40ff-92a7-860e329aab41}';
const ROOT = '{00000000-0000-0000-0000-000000000000}';
const OTHER = '{11111111-2222-3333-4444-555555555555}';

interface Described {
  readonly start: number;
  readonly end: number;
  readonly images: readonly (readonly [guid: string, type: string, file: string])[];
}

/** A descriptor; `shots` are pairs of guid and parent. */
function describe(
  storages: readonly Described[],
  shots: readonly (readonly [string, string])[],
  extra = '',
): string {
  const size = storages.at(-1)?.end ?? 0;
  const image = ([guid, type, file]: readonly [string, string, string]): string =>
    `<Image><GUID>${guid}</GUID><Type>${type}</Type><File>${file}</File></Image>`;
  const storage = ({ start, end, images }: Described): string =>
    `<Storage><Start>${start}</Start><End>${end}</End><Blocksize>128</Blocksize>${images.map(image).join('')}</Storage>`;
  const shot = ([guid, parent]: readonly [string, string]): string =>
    `<Shot><GUID>${guid}</GUID><ParentGUID>${parent}</ParentGUID></Shot>`;
  return `<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
  <Disk_Parameters><Disk_size>${size}</Disk_size><Padding>0</Padding>${extra}</Disk_Parameters>
  <StorageData>${storages.map(storage).join('\n')}</StorageData>
  <Snapshots>${shots.map(shot).join('')}</Snapshots>
</Parallels_disk_image>`;
}

const SIZE = 6 * MIB;
const both = (t: ExecutionContext): Graph => graphWith(t, parallelsDriver, parallelsFolderDriver);

async function filled(graph: Graph, path: string, disk: Buffer, at = 0): Promise<void> {
  await createImage(graph, parallelsDriver, path, { size: SIZE, options: { cluster_size: 65536 } });
  const child = await holdImage(graph, path, 'parallels', false);
  await child.write(disk, at);
  await release(graph, child);
}

for (const rootType of ['Compressed', 'Plain'] as const) {
  test(`parallels-hdd: a snapshot chain is read, and written at its top; root ${rootType}`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const graph = both(t);
    const model = new ModelDisk(SIZE);
    mixedDisk(1, SIZE).copy(model.bytes);
    const overlay = mixedDisk(2, MIB);
    if (rootType === 'Plain') await rawFile(folder, 'root.hds', model.bytes);
    else await filled(graph, join(folder, 'root.hds'), model.bytes);
    await createImage(graph, parallelsDriver, join(folder, 'top.hds'), {
      size: SIZE,
      options: { cluster_size: 65536 },
    });
    await filled(graph, join(folder, 'middle.hds'), overlay, MIB);
    model.write(overlay, MIB);
    const root = await readFile(join(folder, 'root.hds'));
    const images = [
      [ROOT.replace('0', '9'), rootType, 'root.hds'],
      [OTHER, 'Compressed', 'middle.hds'],
      [TOP, 'Compressed', 'top.hds'],
    ] as const;
    const shots = [
      [ROOT.replace('0', '9'), ROOT],
      [TOP, OTHER],
      [OTHER, ROOT.replace('0', '9')],
    ] as const;
    const path = join(folder, 'DiskDescriptor.xml');
    await writeFile(path, describe([{ start: 0, end: SIZE / 512, images }], shots));
    const child = await holdImage(graph, path, undefined, false);
    t.is(child.node.driver.name, 'parallels-hdd');
    t.is(difference(await readAll(child), model.bytes), undefined);
    const random = new Random(seed(71));
    const disk = childDisk(child, random);
    await exercise(disk, model, {
      random,
      operations: 250,
      concurrency: 4,
      maxLength: 300_000,
      borders: [65536],
    });
    await verify(disk, model);
    await release(graph, child);
    const again = await holdImage(graph, path);
    t.is(difference(await readAll(again), model.bytes), undefined);
    t.true(root.equals(await readFile(join(folder, 'root.hds'))), 'the root is not written');
    await run('qemu-img', ['check', '-f', 'parallels', join(folder, 'top.hds')]);
  });
}

test('parallels-hdd: a disk of several storages is read and written', async (t) => {
  const folder = await tempDir(t);
  const graph = both(t);
  const model = new ModelDisk(SIZE + MIB + 512);
  mixedDisk(3, model.size).copy(model.bytes);
  await rawFile(folder, 'first.hds', model.bytes.subarray(0, MIB));
  await filled(graph, join(folder, 'second.hds'), model.bytes.subarray(MIB, MIB + SIZE));
  await rawFile(folder, 'third.hds', model.bytes.subarray(MIB + SIZE));
  const sectors = MIB / 512;
  const path = join(folder, 'DiskDescriptor.xml');
  const storages = [
    { start: 0, end: sectors, images: [[TOP, 'Plain', 'first.hds']] },
    { start: sectors, end: 7 * sectors, images: [[TOP, 'Compressed', 'second.hds']] },
    { start: 7 * sectors, end: 7 * sectors + 1, images: [[TOP, 'Plain', 'third.hds']] },
  ] as const;
  await writeFile(path, describe(storages, [[TOP, ROOT]]));
  const child = await holdImage(graph, path, undefined, false);
  t.is(difference(await readAll(child), model.bytes), undefined);
  const random = new Random(seed(72));
  const disk = childDisk(child, random);
  await exercise(disk, model, {
    random,
    operations: 250,
    concurrency: 4,
    maxLength: 2 * MIB,
    borders: [65536, MIB],
  });
  await verify(disk, model);
});

test('parallels-hdd: a folder created here is written and read again', async (t) => {
  const folder = join(await tempDir(t), 'disk.hdd');
  await mkdir(folder);
  const path = join(folder, 'DiskDescriptor.xml');
  const graph = both(t);
  await writeFile(path, '');
  const file = await hold(graph, { driver: 'file', filename: path });
  await parallelsFolderDriver.create?.({
    options: { cluster_size: 65536 },
    size: SIZE,
    file,
    subject: path,
    createFile: async (name) => {
      await writeFile(join(folder, name), '');
      return hold(graph, { driver: 'file', filename: join(folder, name) });
    },
  });
  await graph.close();
  const other = both(t);
  const child = await holdImage(other, path, undefined, false);
  const disk = mixedDisk(4, SIZE);
  await child.write(disk, 0);
  await t.throwsAsync(child.resize(SIZE * 2), {
    code: 'ENOTSUP',
    message:
      /DiskDescriptor\.xml" to \d+ bytes: .* stands in its descriptor and in each of its images; convert it/,
  });
  await release(other, child);
  t.is(difference(await readAll(await holdImage(other, path)), disk), undefined);
});

test('parallels-hdd: what is missing, wrong or not supported is named', async (t) => {
  const folder = await tempDir(t);
  const graph = both(t);
  const path = join(folder, 'DiskDescriptor.xml');
  const refusal = async (text: string): Promise<string> => {
    await writeFile(path, text);
    return (await t.throwsAsync(holdImage(graph, path, 'parallels-hdd'))).message;
  };
  const one = (file: string): Described => ({ start: 0, end: 2048, images: [[TOP, 'Plain', file]] });
  t.regex(
    await refusal(describe([one('gone.hds')], [[TOP, ROOT]])),
    /gone\.hds.*storages\.0\.images\.0\.file\.filename/s,
  );
  t.regex(await refusal(describe([one('../../etc/passwd')], [[TOP, ROOT]])), /lies outside/);
  t.regex(await refusal(describe([one('/dev/sda')], [[TOP, ROOT]])), /device or system file|lies outside/);
  t.regex(
    await refusal(
      describe(
        [one('x')],
        [
          [TOP, OTHER],
          [OTHER, TOP],
        ],
      ),
    ),
    /are a loop/,
  );
  t.regex(await refusal(describe([one('x')], [[TOP, OTHER]])), /no Shot has the GUID \{1111/);
  t.regex(
    await refusal(describe([one('x')], [[TOP, ROOT]], `<Encryption><Engine>${OTHER}</Engine></Encryption>`)),
    /encryption is not supported/,
  );
  t.regex(
    await refusal(describe([{ ...one('x'), start: 5 }], [[TOP, ROOT]])),
    /a storage lies from sector 5 to 2048, must begin at 0/,
  );
  t.regex(await refusal('<Parallels_disk_image Version="2.0"/>'), /Version is 2\.0, must be 1\.0/);
  t.regex(
    await refusal(
      '<!DOCTYPE a [<!ENTITY x "y">]><Parallels_disk_image Version="1.0"><Disk_Parameters>&x;</Disk_Parameters></Parallels_disk_image>',
    ),
    /Disk_size is ""/,
  );
  await unlink(path);
});

test.serial('parallels-hdd: damaged descriptors are refused or served', async (t) => {
  const folder = await tempDir(t);
  const graph = both(t);
  await filled(graph, join(folder, 'a.hds'), mixedDisk(5, SIZE));
  const path = join(folder, 'DiskDescriptor.xml');
  const images = [[TOP, 'Compressed', 'a.hds']] as const;
  await writeFile(path, describe([{ start: 0, end: SIZE / 512, images }], [[TOP, ROOT]]));
  const { length } = await readFile(path);
  await survivesMutations(t, graph, {
    driver: 'parallels-hdd',
    seed: seed(73),
    path,
    tables: [[0, length]],
    writable: true,
  });
});
