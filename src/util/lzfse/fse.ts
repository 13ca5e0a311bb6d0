/**
 * Finite state entropy coding as LZFSE has it. A symbol that occurs with frequency f owns f neighbouring states; going
 * on to the next state takes k or k - 1 bits, so that all states are reached.
 */
export class FseTable {
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
  readonly deltas: Int16Array;

  /** @param states a power of two, at least the sum of all frequencies */
  constructor(frequencies: Uint16Array, states: number) {
    this.symbols = new Uint8Array(states);
    this.bits = new Uint8Array(states);
    this.deltas = new Int16Array(states);
    let state = 0;
    for (const [symbol, frequency] of frequencies.entries()) {
      if (state + frequency > states)
        throw new RangeError(`lzfse: frequencies add up to more than ${states}`);
      const k = Math.clz32(frequency) - Math.clz32(states);
      const turn = (2 * states) / 2 ** k - frequency;
      for (let index = 0; index < frequency; index += 1, state += 1) {
        const early = index < turn;
        this.symbols[state] = symbol;
        this.bits[state] = early ? k : k - 1;
        this.deltas[state] = early ? (frequency + index) * 2 ** k - states : (index - turn) * 2 ** (k - 1);
      }
    }
  }
}

/** Bits read from the end of a range of bytes towards its start, highest first. */
export class BackwardBits {
  private readonly bytes: Buffer;
  private readonly from: number;
  private at: number;
  private hold = 0;
  private held: number;

  /** @param spare bits of the last byte that are not used, 0 to 7 */
  constructor(bytes: Buffer, from: number, to: number, spare: number) {
    this.bytes = bytes;
    this.from = from;
    this.at = to;
    this.held = 0;
    if (spare === 0) return;
    if (to <= from) throw new RangeError('lzfse: a bit stream is empty');
    this.at -= 1;
    this.held = 8 - spare;
    this.hold = (bytes[this.at] ?? 0) & (2 ** this.held - 1);
  }

  /** @param count 0 to 24; fewer than 8 bits are held before and after, so never more than 31 */
  pull(count: number): number {
    let { hold, held } = this;
    while (held < count) {
      if (this.at <= this.from) throw new RangeError('lzfse: a bit stream ends too early');
      this.at -= 1;
      hold = (hold << 8) | (this.bytes[this.at] ?? 0);
      held += 8;
    }
    held -= count;
    this.held = held;
    this.hold = hold & ((1 << held) - 1);
    return hold >>> held;
  }
}

/** One of the interleaved decoders over a stream of bits. */
export class FseDecoder {
  private readonly table: FseTable;
  private state: number;

  constructor(table: FseTable, state: number) {
    if (state >= table.symbols.length) throw new RangeError(`lzfse: state is ${state}`);
    this.table = table;
    this.state = state;
  }

  next(bits: BackwardBits): number {
    const { symbols, deltas, bits: counts } = this.table;
    const symbol = symbols[this.state] ?? 0;
    this.state = (deltas[this.state] ?? 0) + bits.pull(counts[this.state] ?? 0);
    return symbol;
  }

  /** A value whose low bits stand beside the bits of the state. */
  nextValue(bits: BackwardBits, bases: readonly number[], extra: readonly number[]): number {
    const { symbols, deltas, bits: counts } = this.table;
    const symbol = symbols[this.state] ?? 0;
    const change = bits.pull(counts[this.state] ?? 0);
    this.state = (deltas[this.state] ?? 0) + change;
    return (bases[symbol] ?? 0) + bits.pull(extra[symbol] ?? 0);
  }
}
