import test from 'ava';
import { unpackLzfse } from '../../src/util/lzfse/lzfse.ts';
import { difference } from '../helpers/model-disk.ts';
import { Random, seed } from '../helpers/random.ts';
import { END, lzvnBlock, lzvnWays, MOST, perform, plainBlock, v1Block, v2Block } from './lzfse-packer.ts';
import type { Op } from './lzfse-packer.ts';

/** Some bytes often, some never, so that frequencies of all sizes come up. */
const literalsOf = (random: Random, length: number): Buffer =>
  Buffer.from(random.bytes(length).map((byte) => (byte < 200 ? byte % 5 : byte)));

/** Mostly small numbers, now and then the largest. */
function sized(random: Random, most: number): number {
  if (random.chance(0.02)) return most;
  return random.below(random.chance(0.7) ? Math.min(most, 12) + 1 : most + 1);
}

function randomOps(random: Random, count: number, before: number): Op[] {
  const ops: Op[] = [];
  let size = before;
  for (let index = 0; index < count; index += 1) {
    const most = random.chance(0.9) ? 8 : MOST.literals;
    const literals = literalsOf(random, size === 0 ? 1 + sized(random, most - 1) : sized(random, most));
    size += literals.length;
    const again = index > 0 && random.chance(0.3);
    const distance = again ? 0 : 1 + sized(random, Math.min(size, MOST.distance) - 1);
    const match = random.chance(0.05) ? 0 : sized(random, random.chance(0.95) ? 40 : MOST.match);
    ops.push({ literals, match, distance });
    size += match;
  }
  return ops;
}

/** Operations that LZVN has a way to say, said in any of them. */
function randomLzvn(random: Random, count: number, before: number): { ops: Op[]; packed: Buffer } {
  const ops: Op[] = [];
  const packed: Buffer[] = [];
  let size = before;
  let hasDistance = false;
  while (ops.length < count) {
    const longest = random.chance(0.7) ? 3 : 271;
    const literals = literalsOf(random, random.below(longest + 1));
    const match = random.chance(0.2) ? 0 : random.below(random.pick([11, 35, 272]));
    const reach = Math.min(size + literals.length, random.pick([0x5ff, 16_383, 65_535]));
    const distance = match > 0 && reach > 0 && random.chance(0.7) ? random.between(1, reach) : 0;
    if (match > 0 && distance === 0 && !hasDistance) continue;
    const op = { literals, match, distance };
    const ways = lzvnWays(op);
    if (ways.length === 0) continue;
    hasDistance ||= distance > 0;
    ops.push(op);
    packed.push(random.pick(ways));
    // Elements that do nothing.
    if (random.chance(0.1)) packed.push(Buffer.from([random.pick([0x0e, 0x16])]));
    size += literals.length + match;
  }
  return { ops, packed: Buffer.concat(packed) };
}

interface Packed {
  readonly packed: Buffer;
  readonly plain: Buffer;
}

/** A block of one kind and what it gives, behind what there is. */
function randomBlock(random: Random, before: Buffer): Packed {
  const kind = random.pick(['plain', 'v1', 'v2', 'v2', 'lzvn']);
  if (kind === 'plain') {
    const plain = literalsOf(random, random.below(5000));
    return { packed: plainBlock(plain), plain };
  }
  if (kind === 'lzvn') {
    const { ops, packed } = randomLzvn(random, random.between(1, 300), before.length);
    const plain = perform(ops, before);
    return { packed: lzvnBlock(packed, plain.length), plain };
  }
  const ops = randomOps(random, random.chance(0.1) ? 1 : random.between(1, 400), before.length);
  const plain = perform(ops, before);
  return { packed: (kind === 'v1' ? v1Block : v2Block)(ops, plain.length), plain };
}

/** Blocks of every kind, each of which refers to what those before it gave. */
function randomStream(random: Random): Packed {
  const blocks = random.between(1, 6);
  let plain = Buffer.alloc(0);
  const packed: Buffer[] = [];
  for (let index = 0; index < blocks; index += 1) {
    const block = randomBlock(random, plain);
    packed.push(block.packed);
    plain = Buffer.concat([plain, block.plain]);
  }
  packed.push(END);
  return { packed: Buffer.concat(packed), plain };
}

test('lzfse: blocks of all kinds, packed from the description of the format, are unpacked', (t) => {
  const random = new Random(seed(41));
  for (let round = 0; round < 60; round += 1) {
    const { packed, plain } = randomStream(random);
    t.is(difference(unpackLzfse(packed, plain.length), plain), undefined, `round ${round}`);
    if (plain.length > 0) t.throws(() => unpackLzfse(packed, plain.length - 1), { instanceOf: RangeError });
    t.throws(() => unpackLzfse(packed, plain.length + 1), { instanceOf: RangeError });
  }
});

test('lzfse: what is cut off or changed is refused, or unpacks to other bytes of the same length', (t) => {
  const random = new Random(seed(42));
  for (let round = 0; round < 300; round += 1) {
    const { packed, plain } = randomStream(random);
    t.throws(() => unpackLzfse(packed.subarray(0, random.below(packed.length)), plain.length), {
      instanceOf: RangeError,
    });
    packed[random.below(packed.length)] = random.below(256);
    try {
      t.is(unpackLzfse(packed, plain.length).length, plain.length);
    } catch (error) {
      t.true(error instanceof RangeError, String(error));
    }
  }
});
