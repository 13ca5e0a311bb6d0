import { join } from 'node:path';
import test from 'ava';
import { bochsDriver } from '../../drivers/format/bochs/driver.ts';
import { difference } from '../helpers/model-disk.ts';
import { seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { sample } from '../helpers/samples.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';
import {
  graphWith,
  holdImage,
  MIB,
  mixedDisk,
  rawFile,
  readAll,
  sha256,
  survivesMutations,
} from './small-image.ts';

const SIZE = 6 * MIB;

for (const mode of ['growing', 'sparse'] as const) {
  test(`bochs: reads what bximage wrote, ${mode}`, async (t) => {
    if (!canRun(t, 'bximage')) return;
    const folder = await tempDir(t);
    const disk = mixedDisk(1, SIZE);
    const raw = await rawFile(folder, 'base.raw', disk);
    const path = join(folder, 'a.img');
    await run('bximage', ['-q', '-func=convert', `-imgmode=${mode}`, raw, path]);
    const child = await holdImage(graphWith(t, bochsDriver), path);
    t.is(child.node.driver.name, 'bochs');
    t.is(difference(await readAll(child), disk), undefined);
    const info = await child.node.impl.info?.();
    t.is(info?.formatSpecific?.['subformat'], mode);
    // QEMU does not read sparse ones.
    if (mode === 'growing' && canRun(t, 'qemu-img'))
      await run('qemu-img', ['compare', '-f', 'raw', '-F', 'bochs', raw, path]);
  });

  test.serial(`bochs: damaged images are refused or served, ${mode}`, async (t) => {
    if (!canRun(t, 'bximage')) return;
    const folder = await tempDir(t);
    const raw = await rawFile(folder, 'base.raw', mixedDisk(3, 2 * MIB));
    const path = join(folder, 'a.img');
    await run('bximage', ['-q', '-func=convert', `-imgmode=${mode}`, raw, path]);
    const tables =
      mode === 'growing'
        ? ([
            [0, 96],
            [512, 3000],
          ] as const)
        : ([
            [0, 24],
            [256, 600],
          ] as const);
    await survivesMutations(t, graphWith(t, bochsDriver), {
      driver: 'bochs',
      seed: seed(41),
      path,
      tables,
      writable: false,
    });
  });
}

test('bochs: the sample has its guest hash', async (t) => {
  const bytes = sample(t, 'bximage-growing.bochs');
  if (bytes === undefined) return;
  const path = await rawFile(await tempDir(t), 'sample.bochs', bytes);
  const child = await holdImage(graphWith(t, bochsDriver), path);
  t.is(sha256(await readAll(child)), '82cfd0548f11d29a87e7d306eba3ebc40297850a26ac7f2008a1f673c9347ff1');
});

test('bochs: a redolog over another image is refused by name', async (t) => {
  const bytes = Buffer.alloc(4096);
  bytes.write('Bochs Virtual HD Image');
  bytes.write('Redolog', 32);
  bytes.write('Undoable', 48);
  const path = await rawFile(await tempDir(t), 'a.redolog', bytes);
  const error = await t.throwsAsync(holdImage(graphWith(t, bochsDriver), path));
  t.regex(error.message, /type is "Redolog\/Undoable", must be Redolog\/Growing/);
});
