import test from 'ava';
import { memDriver } from '../../drivers/protocol/mem.ts';
import { nullAioDriver, nullCoDriver } from '../../drivers/protocol/null.ts';
import { Extent } from '../../src/block/extent.ts';
import { Random, seed } from '../helpers/random.ts';
import { openDisk } from './open-disk.ts';
import { playRequests } from './random-requests.ts';

test('mem behaves as the bytes it was given', async (t) => {
  const random = new Random(seed(1));
  const disk = await openDisk(memDriver, { size: '1M' });
  const model = await playRequests(disk, Buffer.alloc(2 ** 20), {
    random,
    unit: 1,
    count: 600,
    growth: 4000,
  });
  const bytes = Buffer.alloc(model.length);
  await disk.read(bytes, 0);
  t.true(bytes.equals(model));
  await disk.close();
});

test('mem is sparse, answers for huge holes at once, and forgets what shrinking cut off', async (t) => {
  const size = 2 ** 44;
  const disk = await openDisk(memDriver, { size });
  await disk.write(Buffer.from('end'), size - 3, 0);
  t.is(disk.allocatedSize(), 65536);
  const out = new Extent();
  disk.tryStatus?.(0, size, out);
  t.deepEqual([out.kind, out.length], ['zero', size - 65536]);
  await disk.writeZeroes(0, size, 0);
  t.is(disk.allocatedSize(), 65536);
  await disk.discard(0, size);
  t.is(disk.allocatedSize(), 0);
  await disk.write(Buffer.from('abcdef'), 10, 0);
  await t.throwsAsync(async () => disk.resize?.(12, false), {
    code: 'EINVAL',
    message: /12 bytes is less than/,
  });
  await disk.resize?.(12, true);
  await disk.resize?.(100, false);
  const bytes = Buffer.alloc(8);
  await disk.read(bytes, 9);
  t.is(bytes.toString('latin1'), '\0ab\0\0\0\0\0');
});

for (const driver of [nullCoDriver, nullAioDriver]) {
  test(`${driver.name} keeps nothing and never shows old memory`, async (t) => {
    const disk = await openDisk(driver, { size: '4k', 'read-zeroes': 'on' });
    const bytes = Buffer.from('secret');
    t.true(disk.tryWrite(bytes, 0, 6, 0));
    t.true(disk.tryRead(bytes, 0, 6, 0));
    t.deepEqual(bytes, Buffer.alloc(6));
    t.is(disk.allocatedSize(), 0);
    const out = new Extent();
    disk.tryStatus?.(100, 9999, out);
    t.deepEqual([out.kind, out.length], ['zero', 3996]);
  });
}

test('null-co with latency-ns makes every request wait', async (t) => {
  const disk = await openDisk(nullCoDriver, { 'latency-ns': 20_000_000 });
  t.false(disk.tryRead(Buffer.alloc(512), 0, 512, 0));
  t.false(disk.tryWrite(Buffer.alloc(512), 0, 512, 0));
  const start = performance.now();
  const bytes = Buffer.alloc(512, 1);
  await disk.read(bytes, 0);
  t.true(performance.now() - start > 15);
  t.deepEqual(bytes, Buffer.alloc(512));
});
