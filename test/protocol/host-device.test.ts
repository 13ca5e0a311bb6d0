import fs from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { fileDriver } from '../../drivers/protocol/file.ts';
import { hostDeviceDriver } from '../../drivers/protocol/host-device.ts';
import { ZeroFlag } from '../../src/block/driver.ts';
import type { CommonOptions } from '../../src/block/schema.ts';
import { fileKind } from '../../src/sys/file.ts';
import { Random, seed } from '../helpers/random.ts';
import { run } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { canRun, isRoot } from '../helpers/tools.ts';
import type { Disk } from './open-disk.ts';
import { openDisk } from './open-disk.ts';

const MIB = 2 ** 20;

interface Loop {
  readonly device: string;
  /** The file behind it. */
  readonly file: string;
}

async function loopDevice(t: ExecutionContext, ...flags: string[]): Promise<Loop | undefined> {
  if (!isRoot(t) || !canRun(t, 'losetup')) return undefined;
  const file = path.join(await tempDir(t), 'disk.img');
  fs.writeFileSync(file, new Random(seed(3)).bytes(8 * MIB));
  const { stdout } = await run('losetup', [...flags, '--find', '--show', file]);
  const device = stdout.trim();
  t.teardown(() => run('losetup', ['--detach', device]));
  return { device, file };
}

async function openDevice(
  t: ExecutionContext,
  filename: string,
  common: Partial<CommonOptions> = {},
): Promise<Disk> {
  const disk = await openDisk(hostDeviceDriver, { filename }, common);
  t.teardown(() => disk.close().catch(() => undefined));
  return disk;
}

const readsAndWrites = test.macro(
  async (t, flags: string[], common: Partial<CommonOptions>, unit: number) => {
    const loop = await loopDevice(t, ...flags);
    if (loop === undefined) return;
    const disk = await openDevice(t, loop.device, common);
    t.is(disk.size, 8 * MIB);
    t.is(disk.limits.zeroesAlignment, unit);
    if (common.cacheDirect === true) t.is(disk.limits.requestAlignment, unit);
    const model = fs.readFileSync(loop.file);
    const bytes = Buffer.alloc(MIB);
    await disk.read(bytes, MIB);
    t.true(bytes.equals(model.subarray(MIB, 2 * MIB)));
    bytes.fill('new!').copy(model, 3 * MIB);
    if (!disk.tryWrite(bytes, 0, MIB, 3 * MIB)) await disk.write(bytes, 3 * MIB, 0);
    await disk.flush();
    t.true(fs.readFileSync(loop.file).equals(model));
    await disk.read(bytes.fill(0), 3 * MIB);
    t.true(bytes.equals(model.subarray(3 * MIB, 4 * MIB)));
  },
);
test('device: page cache', readsAndWrites, [], {}, 512);
test('device: O_DIRECT', readsAndWrites, [], { cacheDirect: true }, 512);
test(
  'device: O_DIRECT, blocks of 4096',
  readsAndWrites,
  ['--sector-size', '4096'],
  { cacheDirect: true },
  4096,
);

test('zeroes and discards reach the storage behind the device', async (t) => {
  const loop = await loopDevice(t);
  if (loop === undefined) return;
  const disk = await openDevice(t, loop.device);
  const model = fs.readFileSync(loop.file);
  const used = (): number => fs.statSync(loop.file).blocks * 512;
  const before = used();
  await disk.writeZeroes(512, 3 * 512, ZeroFlag.fua);
  await disk.writeZeroes(MIB, MIB, ZeroFlag.mayUnmap | ZeroFlag.fua);
  model.fill(0, 512, 4 * 512).fill(0, MIB, 2 * MIB);
  t.true(fs.readFileSync(loop.file).equals(model));
  t.is(used(), before - MIB);
  await disk.discard(4 * MIB, 2 * MIB);
  t.is(used(), before - 3 * MIB);
  const bytes = Buffer.alloc(8 * MIB);
  await disk.read(bytes, 0);
  t.true(bytes.subarray(0, 4 * MIB).equals(model.subarray(0, 4 * MIB)));
  t.true(bytes.subarray(6 * MIB).equals(model.subarray(6 * MIB)));
});

test('a read-only device: refused for writing, opened read-only when that will do', async (t) => {
  const loop = await loopDevice(t, '--read-only');
  if (loop === undefined) return;
  await t.throwsAsync(openDevice(t, loop.device), { message: /for writing/ });
  const disk = await openDevice(t, loop.device, { autoReadOnly: true });
  t.true(disk.readOnly);
});

test('a mounted device is not opened for writing', async (t) => {
  const loop = await loopDevice(t);
  if (loop === undefined || !canRun(t, 'mkfs.ext4', 'mount', 'umount')) return;
  await run('mkfs.ext4', ['-q', loop.device]);
  const mountpoint = path.join(path.dirname(loop.file), 'mnt');
  fs.mkdirSync(mountpoint);
  await run('mount', [loop.device, mountpoint]);
  t.teardown(() => run('umount', [mountpoint]));
  await t.throwsAsync(openDevice(t, loop.device), {
    code: 'EBUSY',
    message: /the system itself uses the device/,
  });
  const disk = await openDevice(t, loop.device, { readOnly: true });
  t.is(disk.size, 8 * MIB);
  await disk.close();
});

test('file and host_device send each other what is theirs', async (t) => {
  const loop = await loopDevice(t);
  if (loop === undefined) return;
  t.deepEqual([loop.device, loop.file, '/dev/null', '/', '/no'].map(fileKind), [
    'block',
    'regular',
    'other',
    'other',
    'missing',
  ]);
  await t.throwsAsync(openDisk(fileDriver, { filename: loop.device }), {
    message: /use the driver host_device/,
  });
  await t.throwsAsync(openDevice(t, loop.file), { message: /not a block device, use the driver file/ });
});
