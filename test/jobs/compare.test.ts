/** What two disks are told to differ in: against their bytes, and in how many questions where there is nothing. */
import test from 'ava';
import type { Child } from '../../src/block/child.ts';
import { compareDisks } from '../../src/jobs/compare.ts';
import { openRoot, testGraph } from '../helpers/graph.ts';
import { Random, seed } from '../helpers/random.ts';

const MIB = 1024 * 1024;
const TIB = 1024 * 1024 * MIB;

/** A disk in memory of `size` bytes with some runs of data: it and what it reads as. */
async function randomDisk(
  open: (size: number) => Promise<Child>,
  size: number,
  random: Random,
): Promise<[Child, Buffer]> {
  const [child, bytes] = [await open(size), Buffer.alloc(size)];
  for (let runs = random.below(6); runs > 0; runs -= 1) {
    const at = random.below(size);
    const run = bytes.subarray(at, at + random.below(2 * MIB)).fill(random.below(3));
    if (run.length > 0) await child.write(run, at);
  }
  return [child, bytes];
}

test('compare finds the first byte that differs, whatever holes and sizes the disks have', async (t) => {
  const chosen = seed(811);
  t.log(`seed ${chosen}`);
  const random = new Random(chosen);
  for (let round = 0; round < 16; round += 1) {
    const graph = testGraph(t);
    const open = (size: number): Promise<Child> => openRoot(graph, { driver: 'mem', size });
    const [left, bytes] = await randomDisk(open, random.below(5 * MIB) + 1, random);
    let [right, others] = await randomDisk(open, random.below(5 * MIB) + 1, random);
    if (round % 2 === 0) {
      // The same content, stored otherwise and of another size; sometimes with one byte that is not the same.
      others = Buffer.alloc(others.length);
      bytes.copy(others);
      if (random.chance(0.5)) others[random.below(others.length)] = 9;
      right = await open(others.length);
      await right.write(others, 0);
    }
    const total = Math.max(bytes.length, others.length);
    const [one, other] = [bytes, others].map((part) => Buffer.concat([part], total)) as [Buffer, Buffer];
    const first = one.equals(other) ? undefined : one.findIndex((byte, at) => byte !== other[at]);
    const wanted = { difference: first, sizesDiffer: bytes.length !== others.length };
    let seen = 0;
    const progress = (done: number): void => {
      seen = done;
    };
    t.deepEqual(await compareDisks(left, right, { progress }), wanted, `round ${round}`);
    t.is(seen, total);
    t.deepEqual(await compareDisks(right, left), wanted, `round ${round}, turned round`);
  }
});

test('what neither disk has is gone over in long steps', async (t) => {
  const graph = testGraph(t);
  const [left, right] = await Promise.all(
    [8 * TIB, 8 * TIB + 12_345].map((size) => openRoot(graph, { driver: 'mem', size })),
  );
  if (left === undefined || right === undefined) return t.fail();
  for (const disk of [left, right]) await disk.write(Buffer.from('data'), 5 * TIB + 7);
  let questions = 0;
  const counted = Object.create(left, {
    status: {
      value: (...args: Parameters<Child['status']>) => {
        questions += 1;
        if (questions > 10_000) throw new Error('too many questions');
        return left.status(...args);
      },
    },
  }) as Child;
  t.deepEqual(await compareDisks(counted, right), { difference: undefined, sizesDiffer: true });
  await right.write(Buffer.from('x'), 8 * TIB + 12_344);
  questions = 0;
  const difference = 8 * TIB + 12_344;
  t.deepEqual(await compareDisks(counted, right), { difference, sizesDiffer: true });
});
