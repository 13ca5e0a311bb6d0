import { randomBytes } from 'node:crypto';
import type { Child } from '../../../src/block/child.ts';
import { findDigits, NO_PARENT } from './descriptor.ts';
import type { DigitSpan } from './descriptor.ts';

/** CID that says: look at ddb.longContentID instead. */
const LONG_ID = 0xfffffffe;
const LONG_DIGITS = 32;

/** The content identifiers of a descriptor, replaced digit by digit: the text keeps its length, nothing else moves. */
export class ContentId {
  value: number;
  /** Byte of the file at which the descriptor starts. */
  readonly base: number;
  private short: DigitSpan | undefined = undefined;
  private long: DigitSpan | undefined = undefined;

  constructor(descriptor: Buffer, base: number, value: number) {
    this.base = base;
    this.value = value;
    this.locate(descriptor);
  }

  /** Finds the identifiers in another text of the descriptor. */
  locate(descriptor: Buffer): void {
    this.short = findDigits(descriptor, 'CID');
    const long = findDigits(descriptor, 'ddb.longContentID');
    this.long = long?.length === LONG_DIGITS ? long : undefined;
  }

  /** Writes new random identifiers; the caller flushes. */
  async renew(file: Child): Promise<void> {
    const { short, long, base } = this;
    const next =
      this.value === LONG_ID || short === undefined ? this.value : newContentId(short.length, this.value);
    if (long !== undefined) {
      const digits = randomBytes(12).toString('hex') + hexadecimal(next === LONG_ID ? randomId() : next, 8);
      await file.write(Buffer.from(digits), base + long.at);
    }
    if (short === undefined || next === this.value) return;
    await file.write(Buffer.from(hexadecimal(next, short.length)), base + short.at);
    this.value = next;
  }
}

/** An identifier of so many digits that is none of the special ones, and not `old`. */
export function newContentId(digits = 8, old: number = NO_PARENT): number {
  for (;;) {
    const value = digits >= 8 ? randomId() : randomId() % 16 ** digits;
    if (value !== old && value !== 0 && value < LONG_ID) return value;
  }
}

export const hexadecimal = (value: number, digits: number): string =>
  value.toString(16).padStart(digits, '0');

const randomId = (): number => randomBytes(4).readUInt32LE(0);
