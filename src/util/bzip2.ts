/**
 * bzip2, unpacking only, into a buffer of known size: nothing a stream says makes it use more memory than that and
 * one block. Order of a block: Huffman groups -> move to front with run lengths -> Burrows-Wheeler -> run lengths.
 */
const BLOCK_MAGIC = [0x314159, 0x265359] as const;
const END_MAGIC = [0x177245, 0x385090] as const;
const GROUP = 50;
const CODE_MAX = 20;
/** Codes of up to so many bits are looked up at once. */
const FAST_BITS = 10;

/** Unpacks one stream that must give exactly `size` bytes. Throws a RangeError for anything else. */
export function unpackBzip2(packed: Buffer, size: number): Buffer {
  const bits = new BitReader(packed);
  const out = new Output(size);
  if (bits.read(24) !== 0x425a68) bad('no bzip2 header');
  const level = bits.read(8) - 0x30;
  if (level < 1 || level > 9) bad(`level is ${level}`);
  const places = scratch(level * 100_000);
  for (;;) {
    const high = bits.read(24);
    const low = bits.read(24);
    if (high === END_MAGIC[0] && low === END_MAGIC[1]) break;
    if (high !== BLOCK_MAGIC[0] || low !== BLOCK_MAGIC[1]) bad('no block where one must be');
    unpackBlock(bits, places, out);
  }
  if (out.at !== size) bad(`${out.at} bytes, wanted ${size}`);
  return out.bytes;
}

let kept: Uint32Array | undefined;

/** Room for the places of a block, used again by the next stream of this thread: a stream is unpacked in one go. */
function scratch(length: number): Uint32Array {
  if (kept === undefined || kept.length < length) kept = new Uint32Array(length);
  return kept.subarray(0, length);
}

function bad(why: string): never {
  throw new RangeError(`bzip2: ${why}`);
}

class BitReader {
  private readonly bytes: Buffer;
  private at = 0;
  private hold = 0;
  private held = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** @param count 1 to 24 */
  read(count: number): number {
    while (this.held < count) {
      const byte = this.bytes[this.at];
      if (byte === undefined) bad('the stream ends too early');
      this.at += 1;
      this.hold = ((this.hold << 8) | byte) >>> 0;
      this.held += 8;
    }
    this.held -= count;
    const value = this.hold >>> this.held;
    this.hold &= (1 << this.held) - 1;
    return value;
  }

  /** The next FAST_BITS bits without taking them; zeroes behind the end. */
  peek(): number {
    while (this.held < FAST_BITS) {
      this.hold = ((this.hold << 8) | (this.bytes[this.at] ?? 0)) >>> 0;
      this.at += 1;
      this.held += 8;
    }
    return this.hold >>> (this.held - FAST_BITS);
  }

  /** Takes bits that were peeked. */
  skip(count: number): void {
    this.held -= count;
    this.hold &= (1 << this.held) - 1;
    if (this.at > this.bytes.length + 4) bad('the stream ends too early');
  }
}

/** Where the bytes go. */
class Output {
  readonly bytes: Buffer;
  at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }
}

function unpackBlock(bits: BitReader, places: Uint32Array, out: Output): void {
  const crc = bits.read(16) * 65536 + bits.read(16);
  if (bits.read(1) === 1) bad('a randomised block, which only bzip2 0.9 wrote');
  const origin = bits.read(24);
  const symbols = readSymbolsInUse(bits);
  const selectorInfo = readSelectors(bits);
  const tables = Array.from({ length: selectorInfo.groups }, () => readTable(bits, symbols.length + 2));
  const length = readPlaces(bits, { places, symbols, tables, selectors: selectorInfo.selectors });
  if (origin >= length) bad(`origin is ${origin} in a block of ${length}`);
  linkPlaces(places, length);
  if (writeBlock(places, length, origin, out) !== crc) bad('the checksum of a block is wrong');
}

function readSymbolsInUse(bits: BitReader): number[] {
  const ranges = bits.read(16);
  const symbols: number[] = [];
  for (let range = 0; range < 16; range += 1) {
    if ((ranges & (0x8000 >> range)) === 0) continue;
    const map = bits.read(16);
    for (let index = 0; index < 16; index += 1)
      if ((map & (0x8000 >> index)) !== 0) symbols.push(range * 16 + index);
  }
  if (symbols.length === 0) bad('a block uses no symbol');
  return symbols;
}

function readSelectors(bits: BitReader): { groups: number; selectors: Uint8Array } {
  const groups = bits.read(3);
  if (groups < 2 || groups > 6) bad(`${groups} Huffman tables`);
  const selectors = new Uint8Array(bits.read(15));
  const order = [0, 1, 2, 3, 4, 5];
  for (let index = 0; index < selectors.length; index += 1) {
    let rank = 0;
    while (bits.read(1) === 1) {
      rank += 1;
      if (rank >= groups) bad('a selector names no table');
    }
    const [table = 0] = order.splice(rank, 1);
    order.unshift(table);
    selectors[index] = table;
  }
  return { groups, selectors };
}

/** A canonical Huffman code: by length, the last code and where its symbols begin. */
interface HuffmanTable {
  readonly limit: Int32Array;
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
  /** By the next FAST_BITS bits: length of the code * 512 + symbol, 0 for longer codes. */
  readonly fast: Uint16Array;
}

function readTable(bits: BitReader, count: number): HuffmanTable {
  const lengths = new Uint8Array(count);
  let length = bits.read(5);
  for (let symbol = 0; symbol < count; symbol += 1) {
    for (;;) {
      if (length < 1 || length > CODE_MAX) bad(`a code of ${length} bits`);
      if (bits.read(1) === 0) break;
      length += bits.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return buildTable(lengths);
}

function buildTable(lengths: Uint8Array): HuffmanTable {
  const limit = new Int32Array(CODE_MAX + 2).fill(-1);
  const base = new Int32Array(CODE_MAX + 2);
  const symbols = new Uint16Array(lengths.length);
  let code = 0;
  let placed = 0;
  for (let length = 1; length <= CODE_MAX; length += 1) {
    base[length] = placed - code;
    const before = placed;
    for (let symbol = 0; symbol < lengths.length; symbol += 1) {
      if (lengths[symbol] !== length) continue;
      symbols[placed] = symbol;
      placed += 1;
    }
    code += placed - before;
    if (placed > before) limit[length] = code - 1;
    code *= 2;
  }
  const table = { limit, base, symbols, fast: new Uint16Array(2 ** FAST_BITS) };
  fillFast(table);
  return table;
}

function fillFast({ limit, base, symbols, fast }: HuffmanTable): void {
  for (let next = 0; next < fast.length; next += 1) {
    for (let length = 1; length <= FAST_BITS; length += 1) {
      const code = next >> (FAST_BITS - length);
      if (code > (limit[length] ?? -1)) continue;
      fast[next] = length * 512 + (symbols[code + (base[length] ?? 0)] ?? 0);
      break;
    }
  }
}

function readSymbol(bits: BitReader, { limit, base, symbols, fast }: HuffmanTable): number {
  const known = fast[bits.peek()] ?? 0;
  if (known > 0) {
    bits.skip(known >> 9);
    return known & 511;
  }
  let code = bits.read(FAST_BITS);
  for (let length = FAST_BITS + 1; length <= CODE_MAX; length += 1) {
    code = code * 2 + bits.read(1);
    if (code > (limit[length] ?? -1)) continue;
    return symbols[code + (base[length] ?? 0)] ?? bad('a code without a symbol');
  }
  return bad('a code without a symbol');
}

interface BlockParts {
  readonly places: Uint32Array;
  readonly symbols: number[];
  readonly tables: readonly HuffmanTable[];
  readonly selectors: Uint8Array;
}

/** Undoes Huffman coding and move-to-front; the low byte of each place is then a symbol. Returns how many. */
function readPlaces(bits: BitReader, parts: BlockParts): number {
  const { places, tables, selectors } = parts;
  const symbols = Uint8Array.from(parts.symbols);
  const end = symbols.length + 1;
  let length = 0;
  let run = 0;
  let weight = 1;
  let table: HuffmanTable | undefined;
  for (let count = 0; ; count += 1) {
    if (count % GROUP === 0) table = tables[selectors[count / GROUP] ?? bad('more codes than selectors')];
    if (table === undefined) bad('a selector names no table');
    const symbol = readSymbol(bits, table);
    if (symbol <= 1) {
      run += weight * (symbol + 1);
      weight *= 2;
      if (run > places.length) bad('a block is too long');
      continue;
    }
    if (run > 0) {
      if (length + run > places.length) bad('a block is too long');
      places.fill(symbols[0] ?? 0, length, length + run);
      length += run;
      run = 0;
      weight = 1;
    }
    if (symbol === end) return length;
    if (length >= places.length) bad('a block is too long');
    const moved = symbols[symbol - 1] ?? 0;
    symbols.copyWithin(1, 0, symbol - 1);
    symbols[0] = moved;
    places[length] = moved;
    length += 1;
  }
}

/** Undoes the Burrows-Wheeler transformation: the high bits of each place become the link to the next. */
function linkPlaces(places: Uint32Array, length: number): void {
  const starts = new Uint32Array(256);
  for (let index = 0; index < length; index += 1) {
    const symbol = places[index] ?? 0;
    starts[symbol] = (starts[symbol] ?? 0) + 1;
  }
  let sum = 0;
  for (let symbol = 0; symbol < 256; symbol += 1) {
    const count = starts[symbol] ?? 0;
    starts[symbol] = sum;
    sum += count;
  }
  for (let index = 0; index < length; index += 1) {
    const symbol = (places[index] ?? 0) & 0xff;
    const target = starts[symbol] ?? 0;
    starts[symbol] = target + 1;
    places[target] = ((places[target] ?? 0) | (index << 8)) >>> 0;
  }
}

/**
 * Follows the links and undoes the first run-length coding: four equal bytes are followed by a count of more of them.
 * The hot loop: all it needs is in locals. Returns the checksum of the block.
 */
function writeBlock(places: Uint32Array, length: number, origin: number, out: Output): number {
  const { bytes } = out;
  let { at: to } = out;
  let crc = -1;
  let run = 0;
  let last = -1;
  let at = (places[origin] ?? 0) >>> 8;
  for (let count = 0; count < length; count += 1) {
    const place = places[at] ?? 0;
    const byte = place & 0xff;
    at = place >>> 8;
    let times = 1;
    if (run === 4) {
      times = byte;
      run = 0;
    } else {
      run = byte === last ? run + 1 : 1;
      last = byte;
    }
    if (to + times > bytes.length) bad(`more than ${bytes.length} bytes`);
    for (; times > 0; times -= 1) {
      bytes[to] = last;
      to += 1;
      crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ last] ?? 0);
    }
    if (run === 0) last = -1;
  }
  out.at = to;
  return ~crc >>> 0;
}

/** CRC-32 as bzip2 counts it: highest bit first. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, index) => {
  let crc = index << 24;
  for (let bit = 0; bit < 8; bit += 1) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});
