/**
 * The LZMA decoder (Igor Pavlov's specification, public domain): a range coder whose adaptive bits choose between
 * literals, new matches and the last four distances. It writes into a window that its owner gives and slides; the
 * window is the dictionary.
 */
const STATES = 12;
const POS_STATES = 16;
const BITS_PER_PROB = 11;
const PROB_START = 1024;
const MOVE = 5;
const TOP = 2 ** 24;
const MATCH_MIN = 2;

/** Where each group of probabilities begins. */
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POS_STATES;
const IS_REP0 = IS_REP + STATES;
const IS_REP1 = IS_REP0 + STATES;
const IS_REP2 = IS_REP1 + STATES;
const IS_REP0_LONG = IS_REP2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * POS_STATES;
const POS_SPECIAL = POS_SLOT + 4 * 64;
const ALIGN = POS_SPECIAL + 128;
const LENGTH = ALIGN + 16;
const LENGTH_SIZE = 2 + POS_STATES * 8 * 2 + 256;
const REP_LENGTH = LENGTH + LENGTH_SIZE;
const LITERAL = REP_LENGTH + LENGTH_SIZE;

export class LzmaDecoder {
  readonly window: Buffer;
  /** Where the next byte goes. */
  at = 0;
  /** Bytes before `at` that may be referred to. */
  reach = 0;
  private processed = 0;
  private probs = new Uint16Array(LITERAL);
  private lc = 0;
  private lpMask = 0;
  private pbMask = 0;
  private state = 0;
  private rep0 = 0;
  private rep1 = 0;
  private rep2 = 0;
  private rep3 = 0;
  private range = 0;
  private code = 0;
  private input: Buffer = Buffer.alloc(0);
  private from = 0;
  private to = 0;

  constructor(window: Buffer) {
    this.window = window;
  }

  /** @param byte (pb * 5 + lp) * 9 + lc; the literal contexts are bounded as LZMA2 has it */
  setProperties(byte: number): void {
    const lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    const pb = Math.floor(byte / 45);
    if (pb > 4 || lc + lp > 4) throw new RangeError(`lzma: properties are ${byte}`);
    this.lc = lc;
    this.lpMask = 2 ** lp - 1;
    this.pbMask = 2 ** pb - 1;
    this.probs = new Uint16Array(LITERAL + 0x300 * 2 ** (lc + lp));
    this.resetState();
  }

  resetState(): void {
    this.probs.fill(PROB_START);
    this.state = 0;
    this.rep0 = 0;
    this.rep1 = 0;
    this.rep2 = 0;
    this.rep3 = 0;
  }

  resetDictionary(): void {
    this.reach = 0;
    this.processed = 0;
  }

  /** Takes bytes as they are. */
  copy(bytes: Buffer): void {
    bytes.copy(this.window, this.at);
    this.advance(bytes.length);
  }

  /** Unpacks input[from, to) into `length` bytes, exactly. Throws a RangeError when that is not what they are. */
  decode(input: Buffer, from: number, to: number, length: number): void {
    this.input = input;
    this.from = from;
    this.to = to;
    this.startRange();
    const end = this.at + length;
    if (end > this.window.length) throw new RangeError('lzma: more bytes than there is room');
    while (this.at < end) this.step(end);
    if (this.code !== 0 || this.from !== to)
      throw new RangeError('lzma: a chunk does not end where it should');
  }

  private startRange(): void {
    if (this.to - this.from < 5 || this.input[this.from] !== 0)
      throw new RangeError('lzma: no start of a range coder');
    this.range = 0xffffffff;
    this.code = this.input.readUInt32BE(this.from + 1);
    this.from += 5;
  }

  private step(end: number): void {
    const posState = this.processed & this.pbMask;
    if (this.bit(IS_MATCH + this.state * POS_STATES + posState) === 0) {
      this.literal();
      return;
    }
    let length: number;
    if (this.bit(IS_REP + this.state) === 0) {
      length = this.newMatch(posState);
    } else if (this.repeatedMatch(posState)) {
      length = this.length(REP_LENGTH, posState) + MATCH_MIN;
      this.state = this.state < 7 ? 8 : 11;
    } else {
      length = 1;
    }
    this.match(length, end);
  }

  private literal(): void {
    const { window, at } = this;
    const before = this.reach > 0 ? (window[at - 1] ?? 0) : 0;
    const context = ((this.processed & this.lpMask) << this.lc) + (before >> (8 - this.lc));
    const base = LITERAL + 0x300 * context;
    let symbol = 1;
    if (this.state >= 7) symbol = this.matchedLiteral(base);
    window[at] = this.walk(base, symbol, 0x100) & 0xff;
    this.advance(1);
    this.state = this.state < 4 ? 0 : this.state < 10 ? this.state - 3 : this.state - 6;
  }

  /** The first bits of a literal behind a match, guided by the byte that the match would have gone on with. */
  private matchedLiteral(base: number): number {
    this.checkDistance();
    let guide = this.window[this.at - this.rep0 - 1] ?? 0;
    let symbol = 1;
    while (symbol < 0x100) {
      const expected = (guide >> 7) & 1;
      guide <<= 1;
      const bit = this.bit(base + ((1 + expected) << 8) + symbol);
      symbol = symbol * 2 + bit;
      if (bit !== expected) break;
    }
    return symbol;
  }

  private newMatch(posState: number): number {
    this.rep3 = this.rep2;
    this.rep2 = this.rep1;
    this.rep1 = this.rep0;
    const length = this.length(LENGTH, posState);
    this.state = this.state < 7 ? 7 : 10;
    this.rep0 = this.distance(Math.min(length, 3));
    return length + MATCH_MIN;
  }

  /** False: a single byte from the last distance. */
  private repeatedMatch(posState: number): boolean {
    if (this.bit(IS_REP0 + this.state) === 0) {
      if (this.bit(IS_REP0_LONG + this.state * POS_STATES + posState) === 1) return true;
      this.state = this.state < 7 ? 9 : 11;
      return false;
    }
    let distance = this.rep1;
    if (this.bit(IS_REP1 + this.state) === 1) {
      distance = this.rep2;
      if (this.bit(IS_REP2 + this.state) === 1) {
        distance = this.rep3;
        this.rep3 = this.rep2;
      }
      this.rep2 = this.rep1;
    }
    this.rep1 = this.rep0;
    this.rep0 = distance;
    return true;
  }

  private length(base: number, posState: number): number {
    if (this.bit(base) === 0) return this.tree(base + 2 + posState * 8, 3);
    if (this.bit(base + 1) === 0) return 8 + this.tree(base + 2 + (POS_STATES + posState) * 8, 3);
    return 16 + this.tree(base + 2 + POS_STATES * 16, 8);
  }

  private distance(lengthState: number): number {
    const slot = this.tree(POS_SLOT + lengthState * 64, 6);
    if (slot < 4) return slot;
    const direct = (slot >> 1) - 1;
    const start = (2 + (slot & 1)) * 2 ** direct;
    if (slot < 14) return start + this.reverseTree(POS_SPECIAL + start - slot, direct);
    return start + this.directBits(direct - 4) * 16 + this.reverseTree(ALIGN, 4);
  }

  private match(length: number, end: number): void {
    this.checkDistance();
    const { window, at } = this;
    if (at + length > end) throw new RangeError('lzma: a match goes past the end of its chunk');
    const source = at - this.rep0 - 1;
    if (this.rep0 >= length) window.copyWithin(at, source, source + length);
    else for (let index = 0; index < length; index += 1) window[at + index] = window[source + index] ?? 0;
    this.advance(length);
  }

  private checkDistance(): void {
    if (this.rep0 >= this.reach)
      throw new RangeError(`lzma: a distance of ${this.rep0 + 1}, only ${this.reach} bytes are there`);
  }

  private advance(count: number): void {
    this.at += count;
    this.reach += count;
    this.processed = (this.processed + count) >>> 0;
  }

  private bit(index: number): number {
    const prob = this.probs[index] ?? PROB_START;
    const bound = (this.range >>> BITS_PER_PROB) * prob;
    let bit = 0;
    if (this.code < bound) {
      this.range = bound;
      this.probs[index] = prob + ((2048 - prob) >> MOVE);
    } else {
      this.range -= bound;
      this.code -= bound;
      this.probs[index] = prob - (prob >> MOVE);
      bit = 1;
    }
    if (this.range < TOP) this.normalize();
    return bit;
  }

  /** Reads bits down a tree from `start` until the symbol reaches `top`. The hot loop: all it needs is in locals. */
  private walk(base: number, start: number, top: number): number {
    const { probs, input } = this;
    let { range, code, from } = this;
    let symbol = start;
    while (symbol < top) {
      const index = base + symbol;
      const prob = probs[index] ?? PROB_START;
      const bound = (range >>> BITS_PER_PROB) * prob;
      symbol <<= 1;
      if (code < bound) {
        range = bound;
        probs[index] = prob + ((2048 - prob) >> MOVE);
      } else {
        range -= bound;
        code -= bound;
        probs[index] = prob - (prob >> MOVE);
        symbol |= 1;
      }
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | (input[from] ?? 0)) >>> 0;
        from += 1;
      }
    }
    if (from > this.to) throw new RangeError('lzma: a chunk ends too early');
    this.range = range;
    this.code = code;
    this.from = from;
    return symbol;
  }

  private normalize(): void {
    if (this.from >= this.to) throw new RangeError('lzma: a chunk ends too early');
    this.range = (this.range << 8) >>> 0;
    this.code = ((this.code << 8) | (this.input[this.from] ?? 0)) >>> 0;
    this.from += 1;
  }

  private directBits(count: number): number {
    let value = 0;
    for (let left = count; left > 0; left -= 1) {
      this.range >>>= 1;
      const bit = this.code >= this.range ? 1 : 0;
      if (bit === 1) this.code -= this.range;
      if (this.range < TOP) this.normalize();
      value = value * 2 + bit;
    }
    return value;
  }

  private tree(base: number, bits: number): number {
    const top = 1 << bits;
    return this.walk(base, 1, top) - top;
  }

  private reverseTree(base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let index = 0; index < bits; index += 1) {
      const bit = this.bit(base + symbol);
      symbol = symbol * 2 + bit;
      value += bit << index;
    }
    return value;
  }
}
