import type { Random } from '../helpers/random.ts';

/** A part of an image that is worth damaging. */
export interface Region {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  /** How often it is chosen, beside the others (default 1). */
  readonly weight?: number;
  /** Bytes of a field: damage falls on its multiples more often (default 8). */
  readonly unit?: number;
}

type Damage = (image: Buffer, at: number, random: Random) => void;

const EDGES_32 = [
  0, 1, 2, 7, 9, 22, 31, 32, 64, 512, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff,
];
const EDGES_64 = [
  0n,
  1n,
  511n,
  512n,
  65_536n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 55n,
  2n ** 56n - 512n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const flipBit: Damage = (image, at, random) => {
  image[at] = (image[at] ?? 0) ^ (1 << random.below(8));
};
const setByte: Damage = (image, at, random) => {
  image[at] = random.below(256);
};
const set32: Damage = (image, at, random) => {
  if (at + 4 > image.length) return;
  const value = random.chance(0.8) ? random.pick(EDGES_32) : random.next();
  if (random.chance(0.5)) image.writeUInt32BE(value, at);
  else image.writeUInt32LE(value, at);
};
const set64: Damage = (image, at, random) => {
  if (at + 8 > image.length) return;
  const near = BigInt(random.below(image.length * 2));
  const value = random.chance(0.5) ? random.pick(EDGES_64) : near - (near % 512n);
  if (random.chance(0.5)) image.writeBigUInt64BE(value, at);
  else image.writeBigUInt64LE(value, at);
};
const setFlags: Damage = (image, at, random) => {
  if (at + 8 <= image.length)
    image.writeUInt32BE((image.readUInt32BE(at) ^ (1 << random.below(32))) >>> 0, at);
};
const copyFromElsewhere: Damage = (image, at, random) => {
  const length = random.pick([4, 8, 64, 512]);
  const from = random.below(Math.max(1, image.length - length));
  image.copy(image, at, from, Math.min(from + length, from + image.length - at));
};
const noise: Damage = (image, at, random) => {
  random.bytes(Math.min(random.between(1, 64), image.length - at)).copy(image, at);
};

const DAMAGES: readonly Damage[] = [
  flipBit,
  setByte,
  set32,
  set32,
  set64,
  set64,
  setFlags,
  copyFromElsewhere,
  noise,
];

/** A damaged copy: one to four pieces of damage in the regions, now and then cut off or lengthened. */
export function mutate(original: Buffer, regions: readonly Region[], random: Random): Buffer {
  let image = Buffer.from(original);
  for (let count = random.between(1, 4); count > 0; count -= 1) {
    const region = pickRegion(regions, random);
    const { unit = 8 } = region;
    const inside = random.below(region.length);
    const at = region.offset + (random.chance(0.7) ? inside - (inside % unit) : inside);
    if (at < image.length) random.pick(DAMAGES)(image, at, random);
  }
  if (random.chance(0.08)) image = image.subarray(0, random.below(image.length));
  if (random.chance(0.03)) image = Buffer.concat([image, random.bytes(random.below(70_000))]);
  return image;
}

function pickRegion(regions: readonly Region[], random: Random): Region {
  let point = random.below(regions.reduce((sum, region) => sum + (region.weight ?? 1), 0));
  for (const region of regions) {
    point -= region.weight ?? 1;
    if (point < 0) return region;
  }
  throw new RangeError('Cannot pick from no regions');
}
