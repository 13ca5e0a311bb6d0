/** Growable mounts of formats that count in sectors: the file has the bytes that its users gave it, the disk whole sectors. */
import { appendFile, open, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { mountImage } from '../helpers/mounted.ts';
import { Random } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun } from '../helpers/tools.ts';

const MIB = 1024 * 1024;

for (const [format, sector, ...options] of [
  ['qcow2', 512],
  ['qcow', 512],
  ['qed', 512],
  ['vmdk', 512],
  ['vmdk', 512, 'subformat=monolithicFlat'],
  ['vdi', 512],
  ['vpc', 512, 'force_size=on'],
  ['vpc', 512, 'force_size=on,subformat=fixed'],
  ['vhdx', 512],
  ['parallels', 512],
] as const) {
  test.serial(`${format} ${options.join()}: appends and truncation of any length`, async (t) => {
    if (!canRun(t, 'qemu-img')) return;
    const folder = await tempDir(t);
    const image = join(folder, 'disk.img');
    const created = options.flatMap((option) => ['-o', option]);
    await run('qemu-img', ['create', '-f', format, ...created, image, String(MIB)]);
    const random = new Random(MIB);
    let wanted = Buffer.alloc(MIB);
    const mount = await mountImage(t, image, ['-f', format, '--growable']);
    for (const length of [100, 1, 5000, sector - 1, 2 * MIB + 3]) {
      const bytes = random.bytes(length);
      await appendFile(mount.file, bytes);
      wanted = Buffer.concat([wanted, bytes]);
      t.is((await stat(mount.file)).size, wanted.length);
    }
    t.true(wanted.equals(await readFile(mount.file)));
    await truncate(mount.file, wanted.length + 7);
    wanted = Buffer.concat([wanted, Buffer.alloc(7)]);
    const file = await open(mount.file, 'r+');
    const beyond = await file.read(Buffer.alloc(4096), 0, 4096, wanted.length - 5);
    t.is(beyond.bytesRead, 5);
    await file.close();
    const cut = wanted.length - sector - 77;
    const shrunk = await truncate(mount.file, cut).then(
      () => true,
      () => false,
    );
    if (shrunk) wanted = wanted.subarray(0, cut);
    t.is((await stat(mount.file)).size, wanted.length);
    t.true(wanted.equals(await readFile(mount.file)));
    await mount.unmount();

    const whole = Buffer.alloc(Math.ceil(wanted.length / sector) * sector);
    wanted.copy(whole);
    const raw = join(folder, 'disk.raw');
    const source =
      format === 'vpc'
        ? ['--image-opts', `driver=vpc,force_size_calc=current_size,file.filename=${image}`]
        : ['-f', format, image];
    await run('qemu-img', ['convert', '-O', 'raw', ...source, raw]);
    t.true(whole.equals(await readFile(raw)), 'whole sectors afterwards, their end zeroes');
    const again = await mountImage(t, image, ['-f', format, '-r']);
    t.is((await stat(again.file)).size, whole.length);
    await again.unmount();
  });
}
