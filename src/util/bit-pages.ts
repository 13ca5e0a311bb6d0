/**
 * Very many bits, in pages of which those that are all 0 or all 1 take no memory. Bits are numbered as in a string of bytes,
 * the lowest of a byte first. Up to 2^32 of them.
 */
const PAGE_SHIFT = 15;
/** Bytes. */
const PAGE = 2 ** PAGE_SHIFT;
const PAGE_BITS = PAGE * 8;
const ZEROES = new Uint8Array(PAGE);
const ONES = new Uint8Array(PAGE).fill(0xff);
/** Bits set in a byte. */
const COUNTS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);

export class BitPages {
  /** Bits. */
  readonly length: number;
  private readonly pages: Uint8Array[];

  /** All 0. */
  constructor(length: number) {
    this.length = length;
    this.pages = Array.from({ length: Math.ceil(length / PAGE_BITS) }, () => ZEROES);
  }

  get byteLength(): number {
    return Math.ceil(this.length / 8);
  }

  has(index: number): boolean {
    const byte = index >>> 3;
    return ((this.page(byte)[byte % PAGE] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** How many bits from `first` up to `end`, not included, are 1 now and were not. Allocates where a page is used first. */
  set(first: number, end: number): number {
    let changed = 0;
    for (let at = first; at < end;) {
      if ((at & 7) === 0 && end - at >= 8) {
        const bytes = at % PAGE_BITS === 0 && end - at >= PAGE_BITS ? PAGE : 1;
        changed += bytes === PAGE ? this.setPage(at / PAGE_BITS) : this.setInByte(at >>> 3, 0xff);
        at += bytes * 8;
      } else {
        changed += this.setInByte(at >>> 3, 1 << (at & 7));
        at += 1;
      }
    }
    return changed;
  }

  /** How many bits from `first` up to `end`, not included, are 0 now and were not. */
  reset(first: number, end: number): number {
    let changed = 0;
    for (let at = this.next(first); at < end; at = this.next(at + 1)) {
      const page = this.own((at >>> 3) >>> PAGE_SHIFT);
      const byte = (at >>> 3) % PAGE;
      page[byte] = (page[byte] ?? 0) & ~(1 << (at & 7));
      changed += 1;
    }
    return changed;
  }

  /** The first bit at or after `from` that is 1; `length` where there is none. */
  next(from: number): number {
    return this.find(from, ZEROES, 0);
  }

  /** The first bit at or after `from` that is 0; `length` where there is none. */
  nextClear(from: number): number {
    return this.find(from, ONES, 0xff);
  }

  /** How many are 1. */
  count(): number {
    return this.pages.reduce((sum, page) => sum + countIn(page), 0);
  }

  /** The same bits, which change no more with these. */
  copy(): BitPages {
    return this.resized(this.length);
  }

  /** As many of the same bits as there is room for; what is new is 0. */
  resized(length: number): BitPages {
    const other = new BitPages(length);
    for (let index = 0; index < other.pages.length && index < this.pages.length; index += 1) {
      const page = this.pages[index] ?? ZEROES;
      other.pages[index] = page === ZEROES || page === ONES ? page : page.slice();
    }
    other.dropTail();
    return other;
  }

  /** Fills `bytes` with what stands at byte `from`; 0 behind the end. */
  read(bytes: Uint8Array, from: number): void {
    for (let done = 0; done < bytes.length;) {
      const start = (from + done) % PAGE;
      const part = this.page(from + done).subarray(start, start + bytes.length - done);
      bytes.set(part, done);
      done += part.length;
    }
  }

  /** Puts bytes, or as many times one value, at byte `from`; what is behind the end is dropped. */
  write(bytes: Uint8Array | { readonly value: 0 | 0xff; readonly length: number }, from: number): void {
    const length = Math.min(bytes.length, this.byteLength - from);
    for (let done = 0; done < length;) {
      const start = (from + done) % PAGE;
      const step = Math.min(PAGE - start, length - done);
      const index = (from + done) >>> PAGE_SHIFT;
      const part =
        bytes instanceof Uint8Array
          ? bytes.subarray(done, done + step)
          : (bytes.value === 0 ? ZEROES : ONES).subarray(0, step);
      this.put(index, start, part);
      done += step;
    }
    this.dropTail();
  }

  private put(index: number, start: number, part: Uint8Array): void {
    const page = this.pages[index] ?? ZEROES;
    if (Buffer.compare(part, page.subarray(start, start + part.length)) === 0) return;
    const changed = this.own(index);
    changed.set(part, start);
    if (start + part.length < PAGE) return;
    for (const same of [ZEROES, ONES]) if (Buffer.compare(changed, same) === 0) this.pages[index] = same;
  }

  private find(from: number, skipped: Uint8Array, skippedByte: number): number {
    for (let at = from; at < this.length;) {
      const byte = at >>> 3;
      const page = this.page(byte);
      if (page === skipped) {
        at = ((byte >>> PAGE_SHIFT) + 1) * PAGE_BITS;
        continue;
      }
      const value = ((page[byte % PAGE] ?? 0) ^ skippedByte) >>> (at & 7);
      if (value !== 0) return Math.min(this.length, at + 31 - Math.clz32(value & -value));
      at = (byte + 1) * 8;
    }
    return this.length;
  }

  private setInByte(byte: number, bits: number): number {
    const before = this.page(byte)[byte % PAGE] ?? 0;
    const after = before | bits;
    if (after === before) return 0;
    this.own(byte >>> PAGE_SHIFT)[byte % PAGE] = after;
    return (COUNTS[after] ?? 0) - (COUNTS[before] ?? 0);
  }

  private setPage(index: number): number {
    const before = this.pages[index] ?? ZEROES;
    this.pages[index] = ONES;
    return PAGE_BITS - countIn(before);
  }

  private page(byte: number): Uint8Array {
    return this.pages[byte >>> PAGE_SHIFT] ?? ZEROES;
  }

  /** A page to be changed. */
  private own(index: number): Uint8Array {
    const page = this.pages[index] ?? ZEROES;
    if (page !== ZEROES && page !== ONES) return page;
    return (this.pages[index] = page.slice());
  }

  /** Bits behind the last are 0. */
  private dropTail(): void {
    const last = this.pages.length - 1;
    const used = this.length - last * PAGE_BITS;
    if (last < 0 || used === PAGE_BITS || this.pages[last] === ZEROES) return;
    const page = this.own(last);
    if (used % 8 !== 0) page[used >>> 3] = (page[used >>> 3] ?? 0) & ((1 << (used % 8)) - 1);
    page.fill(0, Math.ceil(used / 8));
  }
}

function countIn(page: Uint8Array): number {
  if (page === ZEROES) return 0;
  if (page === ONES) return PAGE_BITS;
  let sum = 0;
  for (const byte of page) sum += COUNTS[byte] ?? 0;
  return sum;
}
