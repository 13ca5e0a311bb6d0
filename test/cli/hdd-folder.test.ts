/** A Parallels .hdd folder is an image by its own name. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { attemptBlockfuse, blockfuse } from '../helpers/program.ts';
import { Random, seed } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

test('a .hdd folder is shown, mapped, converted and mounted by the name of the folder', async (t) => {
  const cwd = await tempDir(t);
  const disk = new Random(seed(91)).bytes(3 * MIB);
  await writeFile(join(cwd, 'source.raw'), disk);
  await mkdir(join(cwd, 'vm.hdd'));
  const target = join(cwd, 'vm.hdd', 'DiskDescriptor.xml');
  await blockfuse(['create', '-f', 'parallels-hdd', target, '3M'], { cwd });
  await blockfuse(['convert', '-f', 'raw', '-n', '-O', 'parallels-hdd', 'source.raw', target], { cwd });
  const info = JSON.parse((await blockfuse(['info', '--json', 'vm.hdd'], { cwd })).stdout);
  t.is(info.format, 'parallels-hdd');
  t.is(info['virtual-size'], 3 * MIB);
  const map = JSON.parse((await blockfuse(['map', '--json', 'vm.hdd/'], { cwd })).stdout);
  t.is(map[0].start, 0);
  t.true(map.some((entry: { data: boolean }) => entry.data));
  await blockfuse(['convert', 'vm.hdd', 'back.raw'], { cwd });
  t.true(disk.equals(await readFile(join(cwd, 'back.raw'))));
  const mounted = await mountImage(t, join(cwd, 'vm.hdd'));
  t.true(disk.equals(await readFile(mounted.file)));
  t.regex(mounted.file, /\/vm[^/]*$/);
});

test('an image that is missing in the folder is named, with where it was looked for and the option for it', async (t) => {
  const cwd = await tempDir(t);
  await mkdir(join(cwd, 'vm.hdd'));
  await blockfuse(['create', '-f', 'parallels-hdd', 'vm.hdd/DiskDescriptor.xml', '3M'], { cwd });
  const name = 'vm.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds';
  await rename(join(cwd, 'vm.hdd', name), join(cwd, 'elsewhere.hds'));
  const outcome = await attemptBlockfuse(['info', 'vm.hdd'], { cwd });
  t.is(outcome.code, 1);
  t.true(outcome.stderr.includes(join('vm.hdd', name)), outcome.stderr);
  t.regex(outcome.stderr, /storages\.0\.images\.0\.file\.filename/);
  const given = `json:${JSON.stringify({
    driver: 'parallels-hdd',
    'file.filename': join(cwd, 'vm.hdd/DiskDescriptor.xml'),
    'storages.0.images.0.driver': 'parallels',
    'storages.0.images.0.file.filename': join(cwd, 'elsewhere.hds'),
  })}`;
  await blockfuse(['info', given], { cwd });
});

test('a folder that is no disk is refused as one', async (t) => {
  const cwd = await tempDir(t);
  await mkdir(join(cwd, 'plain'));
  const outcome = await attemptBlockfuse(['info', 'plain'], { cwd });
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /is a directory/);
});
