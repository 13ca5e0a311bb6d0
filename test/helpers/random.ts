/**
 * Seeded pseudo-random numbers (splitmix32): the same seed gives the same run on every machine.
 * Tests print their seed; BLOCKFUSE_SEED sets another.
 */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  /** 0 to below - 1, for any below up to 2^53. */
  below(below: number): number {
    const unit = (this.next() * 2 ** 21 + (this.next() >>> 11)) / 2 ** 53;
    return Math.floor(unit * below);
  }

  /** from to to, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError('Cannot pick from an empty list');
    return item;
  }

  bytes(length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let index = 0; index < words.length; index += 1) words[index] = this.next();
    return Buffer.from(words.buffer, 0, length);
  }

  /** Bytes that compress: one value, changing every now and then. Never all zero. */
  softBytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length;) {
      const step = Math.min(length - at, this.between(16, 4096));
      bytes.fill(this.between(1, 255), at, at + step);
      at += step;
    }
    return bytes;
  }
}

/** The seed of a test: BLOCKFUSE_SEED, or the test's own. */
export function seed(own: number): number {
  const given = process.env['BLOCKFUSE_SEED'];
  return given === undefined ? own : Number(given);
}

/** How many rounds of a random test: short by default, many under BLOCKFUSE_SOAK=1 (npm run test:soak). */
export function rounds(short: number, soak: number): number {
  return isSoak() ? soak : short;
}

export function isSoak(): boolean {
  return process.env['BLOCKFUSE_SOAK'] === '1';
}
