import test from 'ava';
import { rawDriver } from '../../drivers/format/raw.ts';
import { DirtyBitmap } from '../../src/block/dirty-bitmap.ts';
import { WriteWatch } from '../../src/block/write-watch.ts';
import { childDisk, openRoot, testGraph } from '../helpers/graph.ts';
import { Random, seed } from '../helpers/random.ts';

const runs = (bitmap: DirtyBitmap): [number, number][] => {
  const found: [number, number][] = [];
  for (let run = bitmap.nextDirty(0); run !== undefined; run = bitmap.nextDirty(run.offset + run.length))
    found.push([run.offset, run.length]);
  return found;
};

test('DirtyBitmap agrees with a list of granules, whatever is set, reset, merged and resized', (t) => {
  const random = new Random(seed(5));
  for (let round = 0; round < 50; round += 1) {
    let size = random.between(1, 200_000);
    const bitmap = new DirtyBitmap({ name: 'b', granularity: 512, size });
    const model = new Set<number>();
    for (let step = 0; step < 60; step += 1) {
      const offset = random.below(size);
      const length = Math.min(size - offset, random.between(1, 50_000));
      const kind = random.below(10);
      if (kind < 6) {
        bitmap.set(offset, length);
        for (let at = Math.floor(offset / 512); at * 512 < offset + length; at += 1) model.add(at);
      } else if (kind < 8) {
        bitmap.reset(offset, length);
        const end = offset + length === size ? Infinity : offset + length;
        for (const at of model) if (at * 512 >= offset && (at + 1) * 512 <= end) model.delete(at);
      } else if (kind === 8) {
        const other = new DirtyBitmap({ name: 'o', granularity: 4096, size });
        other.set(offset, length);
        bitmap.merge(other);
        const start = Math.floor(offset / 4096) * 8;
        const end = Math.min(Math.ceil(size / 512), Math.ceil((offset + length) / 4096) * 8);
        for (let at = start; at < end; at += 1) model.add(at);
      } else {
        size = random.between(1, 200_000);
        bitmap.resize(size);
        for (const at of model) if (at * 512 >= size) model.delete(at);
      }
      const bytes = [...model].reduce((sum, at) => sum + Math.min(512, size - at * 512), 0);
      t.is(bitmap.dirtyBytes, bytes);
      t.is(
        runs(bitmap).reduce((sum, [, length]) => sum + length, 0),
        bytes,
      );
      t.is(bitmap.isDirty(offset), model.has(Math.floor(offset / 512)));
    }
  }
});

const refused = test.macro((t, granularity: number, name: string, text: RegExp) => {
  t.throws(() => new DirtyBitmap({ name, granularity, size: 4096 }), { message: text });
});
test('DirtyBitmap: granularity 1000', refused, 1000, 'b', /power of 2/);
test('DirtyBitmap: granularity 256', refused, 256, 'b', /at least 512/);
test('DirtyBitmap: no name', refused, 512, '', /name cannot be empty/);

test('every way of changing a node is noted: fast and slow writes, zeroes, discards; thresholds are told once', async (t) => {
  const graph = testGraph(t, [rawDriver]);
  const tree = { driver: 'raw', file: { driver: 'mem', size: 1 << 20 }, discard: 'unmap' };
  const child = await openRoot(graph, tree);
  const watch = new WriteWatch();
  child.node.watch = watch;
  const bitmap = new DirtyBitmap({ name: 'b', granularity: 4096, size: child.size });
  watch.bitmaps.set('b', bitmap);
  const told: number[] = [];
  watch.threshold = 500_000;
  watch.onThreshold = (exceeded) => told.push(exceeded);
  t.true(child.tryWrite(Buffer.alloc(512, 1), 0, 512, 4096));
  await child.write(Buffer.alloc(512, 1), 3 * 4096 - 256);
  await child.writeZeroes(10 * 4096, 4096);
  await child.discard(20 * 4096, 8192);
  t.deepEqual(runs(bitmap), [
    [4096, 2 * 4096 + 4096],
    [10 * 4096, 4096],
    [20 * 4096, 8192],
  ]);
  t.deepEqual(told, []);
  await child.write(Buffer.alloc(100), 500_000);
  await child.write(Buffer.alloc(100), 600_000);
  t.deepEqual(told, [100]);
  bitmap.enabled = false;
  bitmap.clear();
  await childDisk(child).write(Buffer.alloc(512), 0);
  t.is(bitmap.dirtyBytes, 0);
  await child.resize(2 << 20);
  t.is(bitmap.size, 2 << 20);
});
