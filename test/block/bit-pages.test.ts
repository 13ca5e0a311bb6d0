/** Bits in pages against a plain array of them. */
import test from 'ava';
import { BitPages } from '../../src/util/bit-pages.ts';
import { Random, rounds, seed } from '../helpers/random.ts';

const PAGE_BITS = 32768 * 8;

test('BitPages agrees with an array of bits, whatever is set, reset, written, copied and resized', (t) => {
  const start = seed(3);
  t.log(`BLOCKFUSE_SEED=${start}`);
  const random = new Random(start);
  let length = 2 * PAGE_BITS + 12_345;
  let pages = new BitPages(length);
  let model = new Uint8Array(length);
  for (let step = 0; step < rounds(120, 3000); step += 1) {
    const first = random.chance(0.3) ? random.below(3) * PAGE_BITS : random.below(length);
    const end = Math.min(length, first + (random.chance(0.3) ? PAGE_BITS : random.between(1, 50_000)));
    const kind = random.below(6);
    if (kind < 3 && first < end) {
      const before = model.subarray(first, end).reduce((sum, bit) => sum + bit, 0);
      const changed = kind === 0 ? pages.reset(first, end) : pages.set(first, end);
      model.fill(kind === 0 ? 0 : 1, first, end);
      t.is(changed, kind === 0 ? before : end - first - before);
    } else if (kind === 3 && first < end) {
      const at = first >>> 3;
      const bytes = random.chance(0.5) ? random.bytes((end - first) >>> 3) : undefined;
      const value = random.pick([0, 0xff] as const);
      pages.write(bytes ?? { value, length: (end - first) >>> 3 }, at);
      for (let bit = at * 8; bit < Math.min(length, (at + ((end - first) >>> 3)) * 8); bit += 1)
        model[bit] = ((bytes?.[(bit >>> 3) - at] ?? value) >>> (bit & 7)) & 1;
    } else if (kind === 4) {
      length = random.between(1, 3 * PAGE_BITS);
      pages = pages.resized(length);
      const next = new Uint8Array(length);
      next.set(model.subarray(0, length));
      model = next;
    } else {
      const copy = pages.copy();
      pages.set(0, length);
      pages = copy;
    }
    const from = random.below(length);
    const orEnd = (found: number): number => (found < 0 ? length : found);
    t.is(pages.next(from), orEnd(model.indexOf(1, from)));
    t.is(pages.nextClear(from), orEnd(model.indexOf(0, from)));
    t.is(pages.has(from), model[from] === 1);
    const bytes = new Uint8Array(100);
    pages.read(bytes, from >>> 3);
    const wanted = bytes.map((_, at) =>
      [0, 1, 2, 3, 4, 5, 6, 7].reduce(
        (sum, bit) => sum + ((model[((from >>> 3) + at) * 8 + bit] ?? 0) << bit),
        0,
      ),
    );
    t.deepEqual(bytes, wanted);
    if (step % 10 === 0)
      t.is(
        pages.count(),
        model.reduce((sum, bit) => sum + bit, 0),
      );
  }
});

test('BitPages: up to 2^32 bits, of which those that are alike take no memory', (t) => {
  const before = process.memoryUsage().arrayBuffers;
  const pages = new BitPages(2 ** 32);
  t.is(pages.set(2 ** 31 - 5, 2 ** 32), 2 ** 31 + 5);
  t.is(pages.count(), 2 ** 31 + 5);
  t.is(pages.next(0), 2 ** 31 - 5);
  t.is(pages.nextClear(2 ** 31), 2 ** 32);
  t.is(pages.reset(2 ** 32 - 1, 2 ** 32), 1);
  t.is(pages.nextClear(2 ** 31), 2 ** 32 - 1);
  t.true(process.memoryUsage().arrayBuffers - before < 2 ** 20);
});
