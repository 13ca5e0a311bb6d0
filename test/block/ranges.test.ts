import test from 'ava';
import { setImmediate as turn } from 'node:timers/promises';
import type { RangeLock } from '../../src/block/ranges.ts';
import { RangeLocks } from '../../src/block/ranges.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

/** Asks for a range and notes when it is held. */
function ask(locks: RangeLocks, offset: number, length: number, exclusive: boolean) {
  const entry: { lock?: RangeLock } = {};
  void locks.acquire(offset, length, exclusive).then((lock) => {
    entry.lock = lock;
  });
  return entry;
}

test('RangeLocks: shared holders of one range do not wait for each other', async (t) => {
  const locks = new RangeLocks();
  const first = await locks.acquire(0, 100, false);
  const second = await locks.acquire(50, 100, false);
  t.true(first.granted && second.granted);
  t.true(locks.isFreeOfExclusive(0, 100));
  t.false(locks.isFree(149, 1));
  t.true(locks.isFree(150, 1));
});

test('RangeLocks: an exclusive entry waits for what overlaps, and for nothing beside it', async (t) => {
  const locks = new RangeLocks();
  const first = await locks.acquire(0, 100, false);
  const beside = await locks.acquire(100, 10, true);
  const entry = ask(locks, 99, 1, true);
  await turn();
  t.is(entry.lock, undefined);
  beside.release();
  await turn();
  t.is(entry.lock, undefined);
  first.release();
  await turn();
  t.true(entry.lock?.granted);
});

test('RangeLocks: a shared entry queues behind a waiting exclusive one, so nobody starves', async (t) => {
  const locks = new RangeLocks();
  const reader = await locks.acquire(0, 100, false);
  const writer = ask(locks, 0, 100, true);
  const late = ask(locks, 50, 10, false);
  await turn();
  t.is(late.lock, undefined);
  t.false(locks.isFreeOfExclusive(0, 1));
  reader.release();
  await turn();
  t.truthy(writer.lock);
  t.is(late.lock, undefined);
  writer.lock?.release();
  await turn();
  t.truthy(late.lock);
});

test('RangeLocks: releasing twice does nothing', async (t) => {
  const locks = new RangeLocks();
  const first = await locks.acquire(0, 10, true);
  first.release();
  const second = await locks.acquire(0, 10, true);
  first.release();
  t.false(locks.isFreeOfExclusive(0, 10));
  second.release();
  t.true(locks.isFree(0, 10));
});

test('RangeLocks: random holders never meet an exclusive one, and all get their turn', async (t) => {
  const random = new Random(seed(7));
  const locks = new RangeLocks();
  const held = new Set<RangeLock>();
  const conflicts = (lock: RangeLock): boolean =>
    [...held].some(
      (other) =>
        (other.exclusive || lock.exclusive) &&
        other.offset < lock.offset + lock.length &&
        lock.offset < other.offset + other.length,
    );
  let served = 0;
  const visit = async (): Promise<void> => {
    const lock = await locks.acquire(random.below(1000), random.between(1, 100), random.chance(0.4));
    t.false(conflicts(lock));
    held.add(lock);
    for (let turns = random.below(4); turns > 0; turns -= 1) await turn();
    held.delete(lock);
    lock.release();
    served += 1;
  };
  const total = rounds(500, 5000);
  await Promise.all(Array.from({ length: total }, visit));
  t.is(served, total);
  t.true(locks.isFree(0, 2000));
});
