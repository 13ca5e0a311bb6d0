/**
 * Contract: InflateScan, in JavaScript: goes through a deflate stream (RFC 1951) to learn where it may be entered again, at the
 * start of a block, with the 32 KiB before it. Where zlib can be called directly that is faster (src/sys/zip-scan.ts): node:zlib
 * does not tell where blocks begin.
 *
 * Input comes in pieces; what a piece ends in the middle of is done again with the next one.
 */
import { crc32 } from 'node:zlib';
import { turn } from './turn.ts';
import type { InflateScan, ScanPoint, ScanStep } from './unpack-service.ts';

const WINDOW = 32 * 1024;
const ROOM = 1024 * 1024;
/** Input that is gone through in one turn. */
const PIECE = 64 * 1024;
/** The header of a block takes at most so many bytes, a symbol with its extra bits less. */
const HEADER_BYTES = 512;
const SYMBOL_BYTES = 8;
const MATCH_MAX = 258;

const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
  227, 258,
];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_EXTRA = Array.from({ length: 30 }, (_, code) => Math.max(0, Math.floor(code / 2) - 1));
const DISTANCE_BASE = DISTANCE_EXTRA.map((bits, code) =>
  code < 2 ? code + 1 : 1 + (2 + (code % 2)) * 2 ** bits,
);
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A code as a table over the next `bits` bits: symbol * 16 + length; 0 for bits that are no code. */
interface Code {
  readonly bits: number;
  readonly table: Uint16Array;
}

type Stage = 'block' | 'stored' | 'symbols' | 'end';

function bad(why: string): never {
  throw new RangeError(`deflate: ${why}`);
}

export class InflateScanner implements InflateScan {
  /** CRC-32 and count of all bytes unpacked so far. */
  crc = 0;
  plain = 0;
  private spacing = 0;
  private last = 0;
  private points: ScanPoint[] = [];
  private input: Buffer = Buffer.alloc(0);
  /** Bytes before `input`; the position in it; bits taken from the byte at it. */
  private base = 0;
  private at = 0;
  private hold = 0;
  private held = 0;
  private final = false;
  private stage: Stage = 'block';
  private lastBlock = false;
  private stored = 0;
  private literals: Code = FIXED_LITERALS;
  private distances: Code = FIXED_DISTANCES;
  private readonly out = Buffer.allocUnsafe(WINDOW + ROOM + MATCH_MAX);
  private outAt = 0;
  private summed = 0;

  get packedLength(): number {
    return Math.ceil(this.bitPosition / 8);
  }

  async step(input: Buffer, final: boolean, spacing: number): Promise<ScanStep> {
    this.spacing = spacing;
    this.points = [];
    for (let at = 0; this.stage !== 'end' && (at === 0 || at < input.length); at += PIECE) {
      this.feed(input.subarray(at, at + PIECE), final && at + PIECE >= input.length);
      await turn();
    }
    return { points: this.points, ended: this.stage === 'end' };
  }

  close(): void {}

  private feed(bytes: Buffer, final: boolean): void {
    this.base += this.at;
    this.input = this.at < this.input.length ? Buffer.concat([this.input.subarray(this.at), bytes]) : bytes;
    this.at = 0;
    this.final = final;
    while (this.stage !== 'end' && this.advance());
    this.sum();
    if (final && this.stage !== 'end') bad('the stream ends too early');
  }

  private notePoint(): void {
    const plain = this.plain + this.outAt - this.summed;
    if (plain - this.last < this.spacing || plain === 0) return;
    this.last = plain;
    const window = Buffer.from(this.out.subarray(Math.max(0, this.outAt - WINDOW), this.outAt));
    this.points.push({ bit: this.bitPosition, plain, window });
  }

  private get bitPosition(): number {
    return (this.base + this.at) * 8 - this.held;
  }

  private has(bytes: number): boolean {
    return this.final || this.at + bytes <= this.input.length;
  }

  /** Does one step; false when it takes more input. */
  private advance(): boolean {
    if (this.stage === 'block') return this.has(HEADER_BYTES) && this.startBlock();
    if (this.stage === 'stored') return this.copyStored();
    return this.readSymbols();
  }

  private startBlock(): boolean {
    if (this.lastBlock) {
      this.stage = 'end';
      return true;
    }
    this.notePoint();
    this.lastBlock = this.take(1) === 1;
    const type = this.take(2);
    if (type === 0) {
      this.startStored();
    } else if (type === 1) {
      this.literals = FIXED_LITERALS;
      this.distances = FIXED_DISTANCES;
      this.stage = 'symbols';
    } else if (type === 2) {
      this.readCodes();
      this.stage = 'symbols';
    } else {
      bad('a block of type 3');
    }
    return true;
  }

  private startStored(): void {
    this.take(this.held % 8);
    const length = this.take(16);
    if (this.take(16) !== 65535 - length) bad('the length of a stored block');
    this.stored = length;
    this.stage = 'stored';
  }

  private copyStored(): boolean {
    while (this.stored > 0) {
      this.makeRoom();
      if (this.held > 0) {
        this.out[this.outAt] = this.take(8);
        this.outAt += 1;
        this.stored -= 1;
        continue;
      }
      const length = Math.min(
        this.stored,
        this.input.length - this.at,
        ROOM - Math.max(0, this.outAt - WINDOW),
      );
      if (length === 0 && this.at >= this.input.length)
        return this.final ? bad('the stream ends too early') : false;
      this.input.copy(this.out, this.outAt, this.at, this.at + length);
      this.at += length;
      this.outAt += length;
      this.stored -= length;
    }
    this.stage = 'block';
    return true;
  }

  /** Unpacks until the block ends (true) or more input is needed (false). */
  private readSymbols(): boolean {
    for (;;) {
      if (!this.has(SYMBOL_BYTES)) return false;
      this.makeRoom();
      const symbol = this.symbol(this.literals);
      if (symbol < 256) {
        this.out[this.outAt] = symbol;
        this.outAt += 1;
      } else if (symbol === 256) {
        this.stage = 'block';
        return true;
      } else {
        this.match(symbol - 257);
      }
    }
  }

  private match(code: number): void {
    const length = (LENGTH_BASE[code] ?? bad('a length code')) + this.take(LENGTH_EXTRA[code] ?? 0);
    const far = this.symbol(this.distances);
    const distance = (DISTANCE_BASE[far] ?? bad('a distance code')) + this.take(DISTANCE_EXTRA[far] ?? 0);
    const { out, outAt } = this;
    const source = outAt - distance;
    if (source < 0) bad('a distance beyond the start');
    if (distance >= length) out.copyWithin(outAt, source, source + length);
    else for (let index = 0; index < length; index += 1) out[outAt + index] = out[source + index] ?? 0;
    this.outAt += length;
  }

  private makeRoom(): void {
    if (this.outAt < WINDOW + ROOM) return;
    this.sum();
    this.out.copyWithin(0, this.outAt - WINDOW, this.outAt);
    this.outAt = WINDOW;
    this.summed = WINDOW;
  }

  /** Counts what was unpacked since the last time. */
  private sum(): void {
    this.crc = crc32(this.out.subarray(this.summed, this.outAt), this.crc);
    this.plain += this.outAt - this.summed;
    this.summed = this.outAt;
  }

  private fill(): void {
    while (this.held <= 24 && this.at < this.input.length) {
      this.hold = (this.hold | ((this.input[this.at] ?? 0) << this.held)) >>> 0;
      this.at += 1;
      this.held += 8;
    }
  }

  /** @param count 0 to 16 */
  private take(count: number): number {
    if (this.held < count) this.fill();
    if (this.held < count) bad('the stream ends too early');
    const value = this.hold & ((1 << count) - 1);
    this.hold >>>= count;
    this.held -= count;
    return value;
  }

  private symbol({ bits, table }: Code): number {
    if (this.held < 15) this.fill();
    const entry = table[this.hold & ((1 << bits) - 1)] ?? 0;
    const length = entry & 15;
    if (length > this.held || this.held === 0) bad('the stream ends too early');
    if (length === 0) bad('bits that are no code');
    this.hold >>>= length;
    this.held -= length;
    return entry >>> 4;
  }

  private readCodes(): void {
    const literalCount = this.take(5) + 257;
    const distanceCount = this.take(5) + 1;
    const codeCount = this.take(4) + 4;
    const codeLengths = new Uint8Array(19);
    for (let index = 0; index < codeCount; index += 1) codeLengths[CODE_ORDER[index] ?? 0] = this.take(3);
    const code = buildCode(codeLengths);
    const lengths = new Uint8Array(literalCount + distanceCount);
    for (let index = 0; index < lengths.length;) index = this.readLength(code, lengths, index);
    this.literals = buildCode(lengths.subarray(0, literalCount));
    this.distances = buildCode(lengths.subarray(literalCount));
  }

  /** One length, or a repetition; returns the index behind it. */
  private readLength(code: Code, lengths: Uint8Array, index: number): number {
    const symbol = this.symbol(code);
    if (symbol < 16) {
      lengths[index] = symbol;
      return index + 1;
    }
    const count = symbol === 16 ? 3 + this.take(2) : symbol === 17 ? 3 + this.take(3) : 11 + this.take(7);
    if (index + count > lengths.length || (symbol === 16 && index === 0)) bad('a repetition of code lengths');
    return lengths.fill(symbol === 16 ? (lengths[index - 1] ?? 0) : 0, index, index + count) && index + count;
  }
}

function buildCode(lengths: Uint8Array): Code {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length] = (counts[length] ?? 0) + 1;
  counts[0] = 0;
  let bits = 15;
  while (bits > 1 && counts[bits] === 0) bits -= 1;
  const next = new Uint16Array(16);
  for (let length = 1, code = 0; length <= bits; length += 1) {
    code = (code + (counts[length - 1] ?? 0)) * 2;
    if (code + (counts[length] ?? 0) > 2 ** length) bad('code lengths that are no code');
    next[length] = code;
  }
  const table = new Uint16Array(2 ** bits);
  for (const [symbol, length] of lengths.entries()) {
    if (length === 0) continue;
    const code = next[length] ?? 0;
    next[length] = code + 1;
    for (let slot = reversed(code, length); slot < table.length; slot += 2 ** length)
      table[slot] = symbol * 16 + length;
  }
  return { bits, table };
}

function reversed(code: number, length: number): number {
  let value = 0;
  for (let left = code, index = 0; index < length; index += 1, left >>= 1) value = value * 2 + (left & 1);
  return value;
}

const FIXED_LITERALS = buildCode(
  Uint8Array.from({ length: 288 }, (_, symbol) =>
    symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
  ),
);
const FIXED_DISTANCES = buildCode(new Uint8Array(30).fill(5));
